// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
)

func TestFilesAreThoseThatDockerWrites(t *testing.T) {
	files, err := etcFiles(&guestapi.NetworkRequest{
		Hostname: "web", Nameservers: []string{"10.0.0.1", "fd00::1"}, Search: []string{"a.example", "b.example"},
		ResolvOptions: []string{"ndots:0"},
		Hosts:         []*guestapi.HostEntry{{Address: "10.0.0.7", Names: []string{"web", "web.example"}}, {Address: "fd00::7", Names: []string{"web"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"hostname":    "web\n",
		"resolv.conf": "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example b.example\noptions ndots:0\n",
		"hosts":       localHosts + "10.0.0.7\tweb web.example\nfd00::7\tweb\n",
	}
	for name, text := range want {
		if files[name] != text {
			t.Errorf("%s:\n%q, want\n%q", name, files[name], text)
		}
	}
}

func TestWordsThatBreakOutOfTheirLineAreRefused(t *testing.T) {
	for name, r := range map[string]*guestapi.NetworkRequest{
		"name server":  {Nameservers: []string{"10.0.0.1\nnameserver 6.6.6.6"}},
		"search":       {Search: []string{"a b"}},
		"option":       {ResolvOptions: []string{"x#"}},
		"host name":    {Hostname: "a\tb"},
		"empty word":   {Search: []string{""}},
		"host's name":  {Hosts: []*guestapi.HostEntry{{Address: "10.0.0.1", Names: []string{"a\n6.6.6.6 bank"}}}},
		"no names":     {Hosts: []*guestapi.HostEntry{{Address: "10.0.0.1"}}},
		"host address": {Hosts: []*guestapi.HostEntry{{Address: "here", Names: []string{"a"}}}},
	} {
		if _, err := etcFiles(r); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesAreWrittenInPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	if err := writeFiles(dir, map[string]string{"hosts": "a long first text\n"}); err != nil {
		t.Fatal(err)
	}
	bound, err := os.Open(filepath.Join(dir, "hosts")) // as a container's bind holds it
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	if err := writeFiles(dir, map[string]string{"hosts": "second\n"}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _ := bound.Read(b)
	if string(b[:n]) != "second\n" {
		t.Errorf("the file that was bound holds %q", b[:n])
	}
}

func TestLinksAreCheckedBeforeTheyAreTouched(t *testing.T) {
	prefixes, gateway, err := parseLink(&guestapi.Link{Addresses: []string{"10.1.2.3/16", "fd00::3/64"}, Gateway: "10.1.0.1", Mac: make([]byte, 6)})
	if err != nil || len(prefixes) != 2 || prefixes[0].String() != "10.1.2.3/16" || gateway.String() != "10.1.0.1" {
		t.Errorf("%v, %v, %v", prefixes, gateway, err)
	}
	for _, l := range []*guestapi.Link{
		{Addresses: []string{"10.1.2.3"}}, {Addresses: []string{"10.1.2.3/33"}}, {Gateway: "10.1.0.1/16"}, {Gateway: "x"}, {Mac: make([]byte, 5)},
	} {
		if _, _, err := parseLink(l); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", l, err)
		}
	}
}

func TestCardsAreCountedInTheKernelsOrder(t *testing.T) {
	sys := t.TempDir()
	for name, index := range map[string]string{"eth9": "3\n", "eth0": "7\n", "lo": "1\n", "odd": "x\n"} {
		dir := filepath.Join(sys, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ifindex"), []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
		if name != "lo" { // loopback stands on no device
			if err := os.Mkdir(filepath.Join(dir, "device"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := nics(sys)
	if len(got) != 2 || got[0] != (nic{"eth9", 3}) || got[1] != (nic{"eth0", 7}) {
		t.Errorf("cards %v", got)
	}
}

func TestSysctlsStayBelowNet(t *testing.T) {
	for _, name := range []string{"kernel.hostname", "../kernel/hostname", "net/../../kernel/hostname", "/etc/passwd", "net.no.such"} {
		if err := SetSysctls(map[string]string{name: "x"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
