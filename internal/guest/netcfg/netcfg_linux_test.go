// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

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

func TestWhatTheContainerWroteStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	write := func(hosts, resolv string) {
		t.Helper()
		if err := writeFiles(dir, map[string]string{"hosts": hosts, "resolv.conf": resolv}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(name, want string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	write("1 a\n2 web\n", "nameserver 1\n")
	write("1 a\n3 web\n", "nameserver 2\n")
	expect("hosts", "1 a\n3 web\n")
	expect("resolv.conf", "nameserver 2\n")
	for name, text := range map[string]string{"hosts": "1 a\n3 web\n9 mine\n", "resolv.conf": "nameserver mine\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		write("1 a\n4 web\n", "nameserver 3\n")
		expect("hosts", "1 a\n4 web\n9 mine\n")
		expect("resolv.conf", "nameserver mine\n")
	}
}

func TestLinksAreCheckedBeforeTheyAreTouched(t *testing.T) {
	prefixes, gateway, err := parseLink(&guestapi.Link{Addresses: []string{"10.1.2.3/16", "fd00::3/64"}, Gateway: "10.1.0.1", Mac: make([]byte, 6)})
	if err != nil || len(prefixes) != 2 || prefixes[0].String() != "10.1.2.3/16" || gateway.String() != "10.1.0.1" {
		t.Errorf("%v, %v, %v", prefixes, gateway, err)
	}
	for _, l := range []*guestapi.Link{
		{Addresses: []string{"10.1.2.3"}}, {Addresses: []string{"10.1.2.3/33"}}, {Gateway: "10.1.0.1/16"}, {Gateway: "x"}, {Mac: make([]byte, 5)}, {Device: make([]byte, 7)},
	} {
		if _, _, err := parseLink(l); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", l, err)
		}
	}
}

func TestCardsAreFoundByTheirOwnAddressOrPosition(t *testing.T) {
	first, second := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	cards := []nic{{"eth9", 3, second}, {"eth0", 7, first}}
	for name, c := range map[string]struct {
		link *guestapi.Link
		want string
	}{
		"address":          {&guestapi.Link{Device: first}, "eth0"},
		"position":         {&guestapi.Link{Index: 0}, "eth9"},
		"no such address":  {&guestapi.Link{Device: []byte{2, 0, 0, 0, 0, 3}}, ""},
		"no such position": {&guestapi.Link{Index: 2}, ""},
	} {
		if got, ok := pick(cards, c.link); got.name != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got.name, ok, c.want)
		}
	}
}

func TestWhatTheKernelSaysOfLinksAndAddresses(t *testing.T) {
	link := linkMessage(7, 0, 0)
	link.attr(unix.IFLA_IFNAME, []byte("eth0\x00"))
	link.attr(unix.IFLA_PERM_ADDRESS, []byte{2, 0, 0, 0, 0, 1})
	n, ok := parseNIC(link.body)
	if !ok || n.name != "eth0" || n.ifindex != 7 || n.device.String() != "02:00:00:00:00:01" {
		t.Errorf("link %+v, %v", n, ok)
	}
	p := netip.MustParsePrefix("10.1.2.3/16")
	address := addressMessage(unix.RTM_NEWADDR, 0, 7, p).body
	if got, index, ok := parseAddress(address); !ok || got != p || index != 7 {
		t.Errorf("address %v of link %d, %v", got, index, ok)
	}
	for cut := range address {
		parseAddress(address[:cut]) // a cut message is no reason to panic
	}
}

func TestSysctlsStayBelowNet(t *testing.T) {
	for _, name := range []string{"kernel.hostname", "../kernel/hostname", "net/../../kernel/hostname", "/etc/passwd", "net.no.such"} {
		if err := SetSysctls(map[string]string{name: "x"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
