// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/usernet"
)

// asSwitch makes the test's program a network's process.
const asSwitch = "network-process"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == asSwitch {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := usernet.Main(ctx, os.Args[2], nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// open opens the networks in a directory whose path is short: there are sockets
// in it.
func open(t *testing.T, dir string) *network.Manager {
	t.Helper()
	m, err := network.Open(t.Context(), network.Config{Dir: dir, Command: []string{os.Args[0], asSwitch}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "byrenet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func create(t *testing.T, m *network.Manager, n network.Network) network.Network {
	t.Helper()
	got, err := m.Create(n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNetworksSurviveTheDaemon(t *testing.T) {
	dir := tempDir(t)
	m := open(t, dir)
	want := create(t, m, network.Network{Name: "back", Subnet: netip.MustParsePrefix("10.9.1.7/24"), Internal: true, Labels: map[string]string{"a": "b"}})
	if want.Subnet.String() != "10.9.1.0/24" || want.Gateway.String() != "10.9.1.1" || !want.SubnetGiven {
		t.Errorf("made with subnet %s, gateway %s, given %t", want.Subnet, want.Gateway, want.SubnetGiven)
	}
	m = open(t, dir)
	got, err := m.Get(want.ID[:6])
	if err != nil || got.Name != "back" || got.Subnet != want.Subnet || !got.Internal || got.Labels["a"] != "b" || !got.Created.Equal(want.Created) {
		t.Errorf("read again: %+v, error %v; want %+v", got, err, want)
	}
}

func TestWhatAKillLeftOfANetworkIsClearedAway(t *testing.T) {
	dir := tempDir(t)
	m := open(t, dir)
	n := create(t, m, network.Network{Name: "half"})
	if _, err := m.Connect(t.Context(), "half", usernet.Endpoint{ID: "c1", Names: []string{"c1"}}); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, n.ID[:8])
	// A kill between the first step of a removal and the second.
	if err := os.Remove(filepath.Join(at, "network.json")); err != nil {
		t.Fatal(err)
	}
	m = open(t, dir)
	if _, err := m.Get("half"); !errdefs.IsNotFound(err) {
		t.Errorf("network that was removed: error %v", err)
	}
	if _, err := os.Stat(at); !os.IsNotExist(err) {
		t.Errorf("its directory: error %v", err)
	}
	if _, err := usernet.Dial(t.Context(), at); !errdefs.IsUnavailable(err) {
		t.Errorf("its process: error %v", err)
	}
}

func TestSubnetsThatAreChosenDoNotOverlap(t *testing.T) {
	m := open(t, tempDir(t))
	seen := map[netip.Prefix]bool{}
	for _, n := range m.Networks() {
		seen[n.Subnet] = true
	}
	for i := range 20 {
		n := create(t, m, network.Network{Name: fmt.Sprintf("n%d", i)})
		for have := range seen {
			if have.IsValid() && have.Overlaps(n.Subnet) {
				t.Errorf("%s overlaps %s", n.Subnet, have)
			}
		}
		seen[n.Subnet] = true
	}
	_, err := m.Create(network.Network{Name: "clash", Subnet: netip.MustParsePrefix("172.17.5.0/24")})
	if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("subnet of the network bridge: error %v", err)
	}
}

func TestNamesAreRefusedThatAreTakenOrNone(t *testing.T) {
	m := open(t, tempDir(t))
	create(t, m, network.Network{Name: "web"})
	for name, is := range map[string]func(error) bool{
		"web": errdefs.IsConflict, "bridge": errdefs.IsPermissionDenied, "none": errdefs.IsPermissionDenied,
		"": errdefs.IsInvalidArgument, "../x": errdefs.IsInvalidArgument, "a b": errdefs.IsInvalidArgument,
	} {
		if _, err := m.Create(network.Network{Name: name}); !is(err) {
			t.Errorf("%q: error %v", name, err)
		}
	}
	for _, subnet := range []string{"10.0.0.0/30", "fd00::/64", "10.0.0.0/4"} {
		if _, err := m.Create(network.Network{Name: "odd", Subnet: netip.MustParsePrefix(subnet)}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("subnet %s: error %v", subnet, err)
		}
	}
}

func TestANetworkInUseIsNotRemoved(t *testing.T) {
	dir := tempDir(t)
	m := open(t, dir)
	n := create(t, m, network.Network{Name: "app", Subnet: netip.MustParsePrefix("10.9.0.0/24")})
	want := usernet.Endpoint{ID: "c1", Names: []string{"db", "alias"}, IP: netip.MustParseAddr("10.9.0.77")}
	ep, err := m.Connect(t.Context(), "app", want)
	if err != nil || ep.IP != want.IP {
		t.Fatalf("address %s, error %v", ep.IP, err)
	}
	if _, err := m.Remove(t.Context(), "app"); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "active endpoints") || !strings.Contains(err.Error(), `"db"`) {
		t.Errorf("removal of a network in use: error %v", err)
	}
	if err := m.Disconnect(t.Context(), "app", "c1"); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Remove(t.Context(), n.ID); err != nil || got.Name != "app" {
		t.Fatalf("removed %q, error %v", got.Name, err)
	}
	if _, err := os.Stat(filepath.Join(dir, n.ID[:8])); !os.IsNotExist(err) {
		t.Errorf("directory of a removed network: error %v", err)
	}
	if _, err := m.Connect(t.Context(), "app", want); !errdefs.IsNotFound(err) {
		t.Errorf("connection to a removed network: error %v", err)
	}
	if _, err := m.Remove(t.Context(), "bridge"); !errdefs.IsPermissionDenied(err) {
		t.Errorf("removal of bridge: error %v", err)
	}
}
