// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"byre.dev/byre/internal/usernet"
)

// guest is a netstack of its own behind a NIC that speaks QEMU's framing: all
// that a switch can know of a VM.
type guest struct {
	ep    usernet.Endpoint
	stack *stack.Stack
	conn  net.Conn
	raw   chan []byte
}

// newSwitch starts a switch that ends with the test and leaks nothing.
func newSwitch(t testing.TB, change func(*usernet.Config)) *usernet.Switch {
	t.Helper()
	noLeak(t)
	cfg := usernet.Config{
		Name:   "testnet",
		Subnet: netip.MustParsePrefix("10.77.0.0/24"),
		Dir:    t.TempDir(),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := usernet.NewSwitch(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// noLeak fails the test if it leaves goroutines of ours or of the netstack.
// Call it first: cleanups run in reverse.
func noLeak(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		var left string
		for range 100 {
			if left = ourGoroutines(); left == "" {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("goroutines left behind:\n%s", left)
	})
}

func ourGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var ours []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && (strings.Contains(g, "usernet.") || strings.Contains(g, "gvisor.dev") || strings.Contains(g, "miekg/dns")) &&
			!strings.Contains(g, "testing.(*T).Run(") {
			ours = append(ours, g)
		}
	}
	return strings.Join(ours, "\n\n")
}

// boot adds an endpoint and attaches a guest to it.
func boot(t testing.TB, s *usernet.Switch, spec usernet.Endpoint) *guest {
	t.Helper()
	ep, err := s.AddEndpoint(spec)
	if err != nil {
		t.Fatal(err)
	}
	g := plug(t, ep)
	for range 500 {
		for _, e := range s.Endpoints() {
			if e.ID == ep.ID && e.Connected {
				return g
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("the NIC of %s is not attached", ep.ID)
	return nil
}

// plug attaches a guest to an endpoint's socket.
func plug(t testing.TB, ep usernet.Endpoint) *guest {
	t.Helper()
	conn, err := net.Dial(usernet.PortNetwork(), ep.Socket)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{ep: ep, conn: conn, raw: make(chan []byte, 64)}
	link := channel.New(4096, uint32(ep.MTU), tcpip.LinkAddress(ep.MAC))
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	must(t, g.stack.CreateNIC(1, ethernet.New(link)))
	must(t, g.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFrom4(ep.IP.As4()), PrefixLen: ep.Subnet.Bits(),
		},
	}, stack.AddressProperties{}))
	routes := []tcpip.Route{{Destination: subnetOf(ep.Subnet), NIC: 1}}
	if ep.Gateway.IsValid() {
		routes = append(routes, tcpip.Route{
			Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(ep.Gateway.As4()), NIC: 1,
		})
	}
	g.stack.SetRouteTable(routes)

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.transmit(ctx, link) })
	wg.Go(func() { g.receive(link) })
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		wg.Wait()
		g.stack.Destroy()
	})
	return g
}

func subnetOf(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(p.Addr().As4()), PrefixLen: p.Bits()}.Subnet()
}

func must(t testing.TB, err tcpip.Error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *guest) transmit(ctx context.Context, link *channel.Endpoint) {
	for {
		pkt := link.ReadContext(ctx)
		if pkt == nil {
			return
		}
		frame := pkt.ToView().AsSlice()
		if g.sendFrame(frame) != nil {
			return
		}
		pkt.DecRef()
	}
}

// sendFrame sends any bytes at all as a frame.
func (g *guest) sendFrame(frame []byte) error {
	buf := binary.BigEndian.AppendUint32(nil, uint32(len(frame)))
	_, err := g.conn.Write(append(buf, frame...))
	return err
}

func (g *guest) receive(link *channel.Endpoint) {
	r := bufio.NewReaderSize(g.conn, 128<<10)
	var size [4]byte
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		select {
		case g.raw <- frame:
		default:
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		link.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

// dial connects from the guest over TCP.
func (g *guest) dial(t testing.TB, addr string) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, full(addr), ipv4.ProtocolNumber)
}

// listen listens in the guest over TCP and echoes, until the test's end.
func (g *guest) listenEcho(t testing.TB, port uint16) {
	t.Helper()
	l, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{NIC: 1, Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, l)
}

// udp opens a UDP socket in the guest; either address may be empty.
func (g *guest) udp(t testing.TB, local, remote string) *gonet.UDPConn {
	t.Helper()
	var l, r *tcpip.FullAddress
	if local != "" {
		a := full(local)
		l = &a
	}
	if remote != "" {
		a := full(remote)
		r = &a
	}
	c, err := gonet.DialUDP(g.stack, l, r, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func full(addr string) tcpip.FullAddress {
	ap := netip.MustParseAddrPort(addr)
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFrom4(ap.Addr().As4()), Port: ap.Port()}
}

// hostEcho listens on this host's loopback interface and echoes.
func hostEcho(t testing.TB) (port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, l)
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// serveEcho sends back what comes until the sender ends, then says "bye".
func serveEcho(t testing.TB, l net.Listener) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				_, _ = io.WriteString(c, "bye")
			})
		}
	})
	t.Cleanup(func() { _ = l.Close() })
}

// exchange sends a message, ends its own direction, and returns all that comes.
func exchange(t testing.TB, c net.Conn, msg string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, msg); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	return string(got)
}
