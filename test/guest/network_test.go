// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

func TestNetworkIsConfigured(t *testing.T) {
	m := start(t)
	r := &guestapi.NetworkRequest{
		Links: []*guestapi.Link{{
			Mac: []byte{0x02, 0, 0, 1, 2, 3}, Addresses: []string{"10.0.2.15/24", "fd00::15/64"}, Gateway: "10.0.2.2", Mtu: 1400,
		}},
		Nameservers: []string{"10.0.2.3"}, Search: []string{"example.org"}, ResolvOptions: []string{"ndots:0"},
		Hosts:    []*guestapi.HostEntry{{Address: "10.0.2.15", Names: []string{"box", "box.example.org"}}},
		Hostname: "box", Sysctls: map[string]string{"ipv4.ip_default_ttl": "77"},
	}
	if _, err := m.Guest.ConfigureNetwork(m.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*guestapi.NetworkRequest{
		{Sysctls: map[string]string{"../kernel/hostname": "x"}},
		{Hosts: []*guestapi.HostEntry{{Address: "1.2.3.4", Names: []string{"a\nb"}}}},
		{Links: []*guestapi.Link{{Addresses: []string{"nonsense"}}}},
	} {
		if _, err := m.Guest.ConfigureNetwork(m.Context(), bad); !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	m.MountRoot("net")
	spec := guesttest.Spec("sh", "-c", `ip -o addr show eth0 | awk '{print $4}'; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu /proc/sys/net/ipv4/ip_default_ttl; ip route | head -1; cat /mnt/resolv.conf /mnt/hostname; grep box /mnt/hosts; ping -c 1 -W 5 10.0.2.2 >/dev/null && echo reached`)
	spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, "CAP_NET_RAW")
	spec.Process.Capabilities.Effective = spec.Process.Capabilities.Bounding
	spec.Process.Capabilities.Permitted = spec.Process.Capabilities.Bounding
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/mnt", Type: "bind", Source: guestapi.RuntimeDir + "/etc", Options: []string{"bind", "ro"}})
	p, err := m.Create("net", spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	p.Wait()
	out, errs := p.Delete()
	want := "10.0.2.15/24\nfd00::15/64\nfe80::ff:fe01:203/64\n02:00:00:01:02:03\n1400\n77\ndefault via 10.0.2.2 dev eth0 \n" +
		"nameserver 10.0.2.3\nsearch example.org\noptions ndots:0\nbox\n10.0.2.15\tbox box.example.org\nreached\n"
	if out != want {
		t.Errorf("got %q, want %q; errors %q", out, want, errs)
	}
}

// TestNetworkChangesUnderAContainer moves the default route and takes the link
// away while a container runs.
func TestNetworkChangesUnderAContainer(t *testing.T) {
	m := start(t)
	change := func(l *guestapi.Link, hosts ...*guestapi.HostEntry) {
		t.Helper()
		if _, err := m.Guest.ConfigureNetwork(m.Context(), &guestapi.NetworkRequest{Links: []*guestapi.Link{l}, Hosts: hosts}); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(address string) *guestapi.HostEntry {
		return &guestapi.HostEntry{Address: address, Names: []string{"box"}}
	}
	change(&guestapi.Link{Addresses: []string{"10.0.2.15/24"}, Gateway: "10.0.2.2"}, entry("10.0.2.15"))
	spec := guesttest.Spec("sleep", "1000")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/mnt", Type: "bind", Source: guestapi.RuntimeDir + "/etc", Options: []string{"bind"}})
	p := m.Run("box", spec)
	n := 0
	look := func(want string) {
		t.Helper()
		n++
		e := m.Exec("box", fmt.Sprint("look", n), "sh", "-c", "ip route; ip -o -4 addr show eth0 | awk '{print $4}'; grep -v ip6- /mnt/hosts")
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		e.Wait()
		if out, errs := e.Delete(); strings.ReplaceAll(out, "127.0.0.1\tlocalhost\n", "") != want {
			t.Errorf("got %q, want %q; errors %q", out, want, errs)
		}
	}
	const subnet = "10.0.2.0/24 dev eth0 scope link  src 10.0.2.15 \n"
	const address = "10.0.2.15/24\n"
	look("default via 10.0.2.2 dev eth0 \n" + subnet + address + "10.0.2.15\tbox\n")
	change(&guestapi.Link{Change: guestapi.Link_ROUTE})
	look(subnet + address + "10.0.2.15\tbox\n")
	change(&guestapi.Link{Change: guestapi.Link_ROUTE}) // there is none to take away
	change(&guestapi.Link{Change: guestapi.Link_ROUTE, Gateway: "10.0.2.3"}, entry("10.0.2.16"))
	look("default via 10.0.2.3 dev eth0 \n" + subnet + address + "10.0.2.16\tbox\n")
	change(&guestapi.Link{Change: guestapi.Link_TAKE_DOWN})
	look("10.0.2.16\tbox\n")
	for _, l := range []*guestapi.Link{{Change: 9}, {Device: []byte{1}}} {
		_, err := m.Guest.ConfigureNetwork(m.Context(), &guestapi.NetworkRequest{Links: []*guestapi.Link{l}})
		if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) {
			t.Errorf("%v: %v", l, err)
		}
	}
	p.Kill(9, false)
}
