// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/usernet"
)

func TestGuestReachesTheHostsLoopbackThroughTheGateway(t *testing.T) {
	s := newSwitch(t, nil)
	port := hostEcho(t)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	c, err := g.dial(t, fmt.Sprintf("10.77.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, c, "hello"); got != "hellobye" {
		t.Errorf("echo answered %q", got)
	}
}

func TestLargeTransfersArriveWhole(t *testing.T) {
	s := newSwitch(t, nil)
	port := hostEcho(t)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	c, err := g.dial(t, fmt.Sprintf("10.77.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	const size = 16 << 20
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i)
	}
	go func() {
		_, _ = c.Write(want)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != size+3 || string(got[:size]) != string(want) {
		t.Errorf("got %d bytes back, want %d unchanged and 3", len(got), size)
	}
}

func TestRefusalByTheHostIsARefusalInTheGuest(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	_, err = g.dial(t, fmt.Sprintf("10.77.0.1:%d", addr.Port))
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial to a closed port: %v, want it refused", err)
	}
}

func TestGuestIsKeptFromWhatIsNotItsBusiness(t *testing.T) {
	port := hostEcho(t)
	for _, tc := range []struct {
		name, dst string
		change    func(*usernet.Config)
	}{
		{"cloud metadata", "169.254.169.254:80", nil},
		{"host when denied", fmt.Sprintf("10.77.0.1:%d", port), func(c *usernet.Config) { c.NoHost = true }},
		{"host of an internal network", fmt.Sprintf("10.77.0.1:%d", port), func(c *usernet.Config) { c.Internal = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSwitch(t, tc.change)
			g := boot(t, s, usernet.Endpoint{ID: "a"})
			if c, err := g.dial(t, tc.dst); err == nil {
				_ = c.Close()
				t.Errorf("dial %s succeeded", tc.dst)
			}
		})
	}
}

func TestGuestsReachOneAnother(t *testing.T) {
	s := newSwitch(t, nil)
	a := boot(t, s, usernet.Endpoint{ID: "a"})
	b := boot(t, s, usernet.Endpoint{ID: "b"})
	b.listenEcho(t, 7)
	c, err := a.dial(t, b.ep.IP.String()+":7")
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, c, "neighbour"); got != "neighbourbye" {
		t.Errorf("echo answered %q", got)
	}
}

func TestUDPGoesOutAndComesBack(t *testing.T) {
	s := newSwitch(t, nil)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	c := g.udp(t, "", fmt.Sprintf("10.77.0.1:%d", pc.LocalAddr().(*net.UDPAddr).Port))
	for _, size := range []int{1, 1400, 9000, 60000} {
		msg := strings.Repeat("x", size)
		if got := ask(t, c, msg); got != msg {
			t.Errorf("datagram of %d bytes came back with %d", size, len(got))
		}
	}
}

// ask sends a datagram and returns the answer.
func ask(t *testing.T, c net.Conn, msg string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte(msg)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestEndpointsAreFilledIn(t *testing.T) {
	s := newSwitch(t, nil)
	a, err := s.AddEndpoint(usernet.Endpoint{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if a.IP != netip.MustParseAddr("10.77.0.2") || a.Gateway != netip.MustParseAddr("10.77.0.1") ||
		a.MTU != usernet.DefaultMTU || a.Socket == "" || a.MAC[0]&3 != 2 {
		t.Errorf("endpoint not filled in: %+v", a)
	}
	b, err := s.AddEndpoint(usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("10.77.0.9")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveEndpoint("a"); err != nil {
		t.Fatal(err)
	}
	again, err := s.AddEndpoint(usernet.Endpoint{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if again.MAC.String() != a.MAC.String() {
		t.Errorf("MAC of the same ID was %s, is now %s", a.MAC, again.MAC)
	}
	if again.IP != netip.MustParseAddr("10.77.0.10") {
		t.Errorf("address %s follows %s", again.IP, b.IP)
	}
	if _, err := os.Stat(a.Socket); err != nil {
		t.Errorf("socket of the endpoint: %v", err)
	}
}

func TestAddressesAreGivenUntilThereAreNone(t *testing.T) {
	s := newSwitch(t, func(c *usernet.Config) { c.Subnet = netip.MustParsePrefix("10.77.0.0/29") })
	for i := range 5 {
		if _, err := s.AddEndpoint(usernet.Endpoint{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "x"}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("sixth endpoint of a /29: %v", err)
	}
	if err := s.RemoveEndpoint("2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "x"}); err != nil {
		t.Errorf("after one was removed: %v", err)
	}
}

func TestBadEndpointsAreRefusedByName(t *testing.T) {
	s := newSwitch(t, nil)
	mac, _ := net.ParseMAC("02:00:00:00:00:01")
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "a", MAC: mac}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		spec usernet.Endpoint
		want string
		is   error
	}{
		{usernet.Endpoint{}, "give an ID", errdefs.ErrInvalidArgument},
		{usernet.Endpoint{ID: "a"}, "endpoint a: it exists", errdefs.ErrAlreadyExists},
		{usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("10.77.0.2")}, "10.77.0.2 is in use", errdefs.ErrAlreadyExists},
		{usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("10.77.0.1")}, "10.77.0.1 is in use", errdefs.ErrAlreadyExists},
		{usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("10.78.0.2")}, "not a host address", errdefs.ErrInvalidArgument},
		{usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("10.77.0.255")}, "not a host address", errdefs.ErrInvalidArgument},
		{usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("fd00::2")}, "--ip6", errdefs.ErrInvalidArgument},
		{usernet.Endpoint{ID: "b", MAC: mac}, "02:00:00:00:00:01 is in use", errdefs.ErrAlreadyExists},
		{usernet.Endpoint{ID: "b", Names: []string{"a b"}}, "cannot be a name", errdefs.ErrInvalidArgument},
		{usernet.Endpoint{ID: "b", Ports: []usernet.PortMapping{{Proto: "sctp", GuestPort: 1}}}, "sctp: only tcp and udp", errdefs.ErrInvalidArgument},
	} {
		_, err := s.AddEndpoint(tc.spec)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.is) {
			t.Errorf("%+v: error %v, want %q", tc.spec, err, tc.want)
		}
	}
	if n := len(s.Endpoints()); n != 1 {
		t.Errorf("%d endpoints are left, want 1", n)
	}
}

func TestBadNetworksAreRefusedByName(t *testing.T) {
	good := usernet.Config{Name: "n", Subnet: netip.MustParsePrefix("10.0.0.0/24")}
	for want, change := range map[string]func(*usernet.Config){
		"--ipv6":              func(c *usernet.Config) { c.Subnet = netip.MustParsePrefix("fd00::/64") },
		"between /8 and /29":  func(c *usernet.Config) { c.Subnet = netip.MustParsePrefix("10.0.0.0/30") },
		"gateway 10.0.1.1":    func(c *usernet.Config) { c.Gateway = netip.MustParseAddr("10.0.1.1") },
		"MTU 100":             func(c *usernet.Config) { c.MTU = 100 },
		"without a name":      func(c *usernet.Config) { c.Name = "" },
		"a shorter directory": func(c *usernet.Config) { c.Dir = "/" + strings.Repeat("d", 100) },
	} {
		cfg := good
		change(&cfg)
		s, err := usernet.NewSwitch(cfg)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestCloseIsIdempotentAndEndsConnections(t *testing.T) {
	s := newSwitch(t, nil)
	port := hostEcho(t)
	g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 7}}})
	g.listenEcho(t, 7)
	out, err := g.dial(t, fmt.Sprintf("10.77.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := net.Dial("tcp", published(s, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.WriteString(in, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	_ = in.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := in.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a published connection after Close: %v, want its end", err)
	}
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "b"}); !errdefs.IsUnavailable(err) {
		t.Errorf("AddEndpoint after Close: %v", err)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// published returns the host address of the first endpoint's nth port.
func published(s *usernet.Switch, n int) string {
	p := s.Endpoints()[0].Ports[n]
	return netip.AddrPortFrom(p.HostIP, p.HostPort).String()
}

func TestEndpointsAreListedAsTheyAre(t *testing.T) {
	s := newSwitch(t, nil)
	boot(t, s, usernet.Endpoint{ID: "b", IP: netip.MustParseAddr("10.77.0.20"), Names: []string{"two"}})
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "a", IP: netip.MustParseAddr("10.77.0.10")}); err != nil {
		t.Fatal(err)
	}
	type line struct {
		ID        string
		Names     []string
		Connected bool
	}
	var got []line
	for range 100 {
		got = nil
		for _, ep := range s.Endpoints() {
			got = append(got, line{ep.ID, ep.Names, ep.Connected})
		}
		if got[1].Connected {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	want := []line{{"a", nil, false}, {"b", []string{"two"}, true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}

func TestHostServiceOnIPv6LoopbackIsReachedToo(t *testing.T) {
	s := newSwitch(t, nil)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		testenv.Skip(t, testenv.Address, "this host has no ::1: %v", err)
	}
	serveEcho(t, l)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	c, err := g.dial(t, fmt.Sprintf("10.77.0.1:%d", l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, c, "six"); got != "sixbye" {
		t.Errorf("echo answered %q", got)
	}
}

func TestAddressesAreGivenFromTheRange(t *testing.T) {
	s := newSwitch(t, func(c *usernet.Config) {
		c.Subnet, c.Range = netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("10.77.5.0/30")
	})
	if got := s.Config().Gateway.String(); got != "10.77.5.0" {
		t.Errorf("gateway %s, want the first of the range", got)
	}
	for _, want := range []string{"10.77.5.1", "10.77.5.2", "10.77.5.3"} {
		ep, err := s.AddEndpoint(usernet.Endpoint{ID: want})
		if err != nil || ep.IP.String() != want {
			t.Errorf("address %s, %v, want %s", ep.IP, err, want)
		}
	}
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "x"}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("beyond the range: %v", err)
	}
	if ep, err := s.AddEndpoint(usernet.Endpoint{ID: "y", IP: netip.MustParseAddr("10.77.9.9")}); err != nil {
		t.Errorf("an address of the subnet that was asked for: %v, %v", ep.IP, err)
	}
	if err := (usernet.Config{Name: "n", Subnet: netip.MustParsePrefix("10.77.0.0/16"), Range: netip.MustParsePrefix("10.78.0.0/24")}).Check(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a range outside of the subnet: %v", err)
	}
}
