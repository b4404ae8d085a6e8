// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/usernet"
)

func TestPublishedPortReachesTheGuest(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "::1", "::"} {
		t.Run(host, func(t *testing.T) {
			s := newSwitch(t, nil)
			g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{
				{HostIP: netip.MustParseAddr(host), GuestPort: 7},
			}})
			g.listenEcho(t, 7)
			c, err := net.Dial("tcp", published(s, 0))
			if err != nil {
				t.Fatal(err)
			}
			if got := exchange(t, c, "in"); got != "inbye" {
				t.Errorf("echo answered %q", got)
			}
		})
	}
}

func TestGuestSeesTheGatewayAsTheSourceOfPublishedConnections(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{Proto: "udp", HostIP: loopback, GuestPort: 9}}})
	in := g.udp(t, g.ep.IP.String()+":9", "")
	c, err := net.Dial("udp", published(s, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = in.SetDeadline(time.Now().Add(5 * time.Second))
	_, from, err := in.ReadFrom(make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	if got := from.(*net.UDPAddr).IP.String(); got != "10.77.0.1" {
		t.Errorf("source is %s", got)
	}
}

func TestPublishedUDPKeepsClientsApart(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{Proto: "udp", HostIP: loopback, GuestPort: 9}}})
	in := g.udp(t, g.ep.IP.String()+":9", "")
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := in.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = in.WriteTo(append([]byte("re:"), buf[:n]...), from)
		}
	}()
	for i := range 5 {
		c, err := net.Dial("udp", published(s, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 3 {
			msg := fmt.Sprint("client ", i)
			if got := ask(t, c, msg); got != "re:"+msg {
				t.Errorf("client %d got %q", i, got)
			}
		}
	}
}

func TestPortInUseIsSaidWithWhatToDo(t *testing.T) {
	s := newSwitch(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	free := usernet.PortMapping{HostIP: loopback, GuestPort: 80}
	taken := usernet.PortMapping{HostIP: loopback, HostPort: port, GuestPort: 80}
	_, err = s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{free, taken}})
	want := fmt.Sprintf("port %d on 127.0.0.1 is already in use: choose another host port or stop what listens there", port)
	if !errors.Is(err, usernet.ErrPortInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if n := len(s.Endpoints()); n != 0 {
		t.Errorf("%d endpoints are left", n)
	}
	_ = l.Close()
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{taken}}); err != nil {
		t.Errorf("after the port was given up: %v", err)
	}
}

func TestForeignAddressCannotBePublished(t *testing.T) {
	s := newSwitch(t, nil)
	_, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{
		{HostIP: netip.MustParseAddr("192.0.2.1"), GuestPort: 80},
	}})
	if err == nil || !strings.Contains(err.Error(), "this host has no address 192.0.2.1") {
		t.Errorf("error %v", err)
	}
}

func TestFirstFreePortOfARangeIsTaken(t *testing.T) {
	s := newSwitch(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	m := usernet.PortMapping{HostIP: loopback, HostPort: port, HostPortEnd: port, GuestPort: 80}
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{m}}); !errors.Is(err, usernet.ErrPortInUse) {
		t.Errorf("a range in use: %v", err)
	}
	m.HostPortEnd = port + 20
	ep, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{m}})
	if err != nil {
		t.Fatal(err)
	}
	if got := ep.Ports[0].HostPort; got <= port || got > port+20 {
		t.Errorf("port %d of %d to %d was taken", got, port, port+20)
	}
}

func TestBothFamiliesGetTheSameChosenPort(t *testing.T) {
	s := newSwitch(t, nil)
	ep, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{
		{HostIP: netip.IPv4Unspecified(), GuestPort: 80},
		{HostIP: netip.IPv6Unspecified(), GuestPort: 80},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := ep.Ports[0].HostPort, ep.Ports[1].HostPort; a == 0 || a != b {
		t.Errorf("ports %d and %d", a, b)
	}
}

func TestClientIsCutOffWhereTheGuestRefuses(t *testing.T) {
	s := newSwitch(t, nil)
	boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 81}}})
	c, err := net.Dial("tcp", published(s, 0))
	if err != nil {
		// The reset may come before Dial has looked.
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("read: %v, want the connection's end", err)
	}
}

func TestPortIsFreeAfterItsEndpoint(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 7}}})
	g.listenEcho(t, 7)
	addr := published(s, 0)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "x")
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveEndpoint("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("connection after its endpoint: %v", err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	_ = l.Close()
}

func TestInternalNetworkPublishesNothing(t *testing.T) {
	s := newSwitch(t, func(c *usernet.Config) { c.Internal = true })
	_, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 7}}})
	if err == nil || !strings.Contains(err.Error(), "internal") {
		t.Errorf("error %v", err)
	}
	ep, err := s.AddEndpoint(usernet.Endpoint{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if ep.Gateway.IsValid() || !ep.Nameserver.IsValid() {
		t.Errorf("gateway %s, nameserver %s; want only the latter", ep.Gateway, ep.Nameserver)
	}
}

func TestPortsArePublishedLater(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	g.listenEcho(t, 7)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	want := usernet.PortMapping{HostIP: loopback, GuestPort: 7}
	if _, err := s.PublishPorts("a", []usernet.PortMapping{want, {HostIP: loopback, HostPort: busy, GuestPort: 7}}); !errors.Is(err, usernet.ErrPortInUse) {
		t.Fatalf("PublishPorts of a port in use = %v", err)
	}
	got, err := s.PublishPorts("a", []usernet.PortMapping{want})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", netip.AddrPortFrom(got[0].HostIP, got[0].HostPort).String())
	if err != nil {
		t.Fatal(err)
	}
	if answer := exchange(t, c, "hello"); answer != "hellobye" {
		t.Errorf("answer %q", answer)
	}
	if _, err := s.PublishPorts("a", []usernet.PortMapping{want}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second PublishPorts = %v", err)
	}
	if _, err := s.PublishPorts("b", nil); !errdefs.IsNotFound(err) {
		t.Errorf("PublishPorts of nobody = %v", err)
	}
}

// needsIPv6 skips a test on a host whose programs cannot listen on IPv6.
func needsIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		testenv.Skip(t, testenv.Feature, "this host has no IPv6")
	}
	_ = l.Close()
}

func TestPortWithoutAnAddressIsPublishedOnBothSides(t *testing.T) {
	needsIPv6(t)
	for _, proto := range []string{"tcp", "udp"} {
		t.Run(proto, func(t *testing.T) {
			s := newSwitch(t, nil)
			ep, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{Proto: proto, GuestPort: 7}, {Proto: proto, GuestPort: 8}}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range ep.Ports {
				got = append(got, p.HostIP.String())
			}
			if want := []string{"0.0.0.0", "::", "0.0.0.0", "::"}; !slices.Equal(got, want) {
				t.Fatalf("published on %v, want %v", got, want)
			}
			if ep.Ports[0].HostPort != ep.Ports[1].HostPort || ep.Ports[2].HostPort != ep.Ports[3].HostPort {
				t.Errorf("the sides have different ports: %v", ep.Ports)
			}
		})
	}
	t.Run("both reach the guest", func(t *testing.T) {
		s := newSwitch(t, nil)
		g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{GuestPort: 7}}})
		g.listenEcho(t, 7)
		for _, host := range []string{"127.0.0.1", "::1"} {
			c, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(g.ep.Ports[0].HostPort))))
			if err != nil {
				t.Fatal(err)
			}
			if got := exchange(t, c, "in"); got != "inbye" {
				t.Errorf("%s: echo answered %q", host, got)
			}
		}
	})
}

func TestPortOfWhichOneSideIsInUseIsInUse(t *testing.T) {
	needsIPv6(t)
	s := newSwitch(t, nil)
	other, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := usernet.PortMapping{HostPort: other.Addr().(*net.TCPAddr).AddrPort().Port(), GuestPort: 7}
	if _, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{taken}}); !errors.Is(err, usernet.ErrPortInUse) {
		t.Errorf("with the IPv6 side in use: %v", err)
	}
	taken.HostPortEnd = taken.HostPort + 20
	ep, err := s.AddEndpoint(usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{taken}})
	if err != nil {
		t.Fatal(err)
	}
	if ep.Ports[0].HostPort == taken.HostPort || ep.Ports[0].HostPort != ep.Ports[1].HostPort {
		t.Errorf("of a range whose first port is in use came out %v", ep.Ports)
	}
}
