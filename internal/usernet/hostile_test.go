// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/usernet"
)

// udpFrame is an Ethernet frame with a UDP datagram in it.
func udpFrame(srcMAC, dstMAC []byte, src, dst netip.Addr) []byte {
	f := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.UDPMinimumSize+4)
	header.Ethernet(f).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(srcMAC), DstAddr: tcpip.LinkAddress(dstMAC), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(f[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4(src.As4()), DstAddr: tcpip.AddrFrom4(dst.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(ip[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{SrcPort: 5, DstPort: 6, Length: uint16(len(udp))})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(udp)))
	udp.SetChecksum(^udp.CalculateChecksum(checksum.Checksum(udp.Payload(), sum)))
	return f
}

// arpFrame is an ARP reply that claims an address.
func arpFrame(srcMAC []byte, claimMAC []byte, claimIP netip.Addr) []byte {
	f := make([]byte, header.EthernetMinimumSize+header.ARPSize)
	header.Ethernet(f).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(srcMAC), DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber,
	})
	a := header.ARP(f[header.EthernetMinimumSize:])
	a.SetIPv4OverEthernet()
	a.SetOp(header.ARPReply)
	copy(a.HardwareAddressSender(), claimMAC)
	ip := claimIP.As4()
	copy(a.ProtocolAddressSender(), ip[:])
	return f
}

// dropped waits until the switch has dropped n frames.
func dropped(t *testing.T, s *usernet.Switch, n uint64) {
	t.Helper()
	for range 250 {
		if s.Info().Dropped >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d frames were dropped, want %d", s.Info().Dropped, n)
}

func TestGuestCannotSpeakForAnother(t *testing.T) {
	s := newSwitch(t, nil)
	evil := boot(t, s, usernet.Endpoint{ID: "evil"})
	victim := boot(t, s, usernet.Endpoint{ID: "victim"})
	witness := boot(t, s, usernet.Endpoint{ID: "witness"})
	gateway := s.GatewayMAC()
	settle(t, s, 3)
	before := s.Info().Dropped
	lies := [][]byte{
		udpFrame(victim.ep.MAC, witness.ep.MAC, evil.ep.IP, witness.ep.IP),
		udpFrame(evil.ep.MAC, witness.ep.MAC, victim.ep.IP, witness.ep.IP),
		udpFrame(evil.ep.MAC, gateway[:], victim.ep.IP, netip.MustParseAddr("10.77.0.1")),
		udpFrame(gateway[:], witness.ep.MAC, netip.MustParseAddr("10.77.0.1"), witness.ep.IP),
		arpFrame(evil.ep.MAC, evil.ep.MAC, victim.ep.IP),
		arpFrame(evil.ep.MAC, evil.ep.MAC, netip.MustParseAddr("10.77.0.1")),
		arpFrame(evil.ep.MAC, victim.ep.MAC, evil.ep.IP),
		{}, {1}, make([]byte, 13), make([]byte, 14), make([]byte, 60),
		arpFrame(evil.ep.MAC, evil.ep.MAC, evil.ep.IP)[:30],
		udpFrame(evil.ep.MAC, witness.ep.MAC, evil.ep.IP, witness.ep.IP)[:20],
	}
	drain(witness)
	for _, lie := range lies {
		if err := evil.sendFrame(lie); err != nil {
			t.Fatal(err)
		}
	}
	dropped(t, s, before+uint64(len(lies)))
	select {
	case f := <-witness.raw:
		t.Errorf("a forged frame arrived: %x", f)
	default:
	}
	truth := udpFrame(evil.ep.MAC, witness.ep.MAC, evil.ep.IP, witness.ep.IP)
	if err := evil.sendFrame(truth); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-witness.raw:
		if string(f) != string(truth) {
			t.Errorf("got %x, want %x", f, truth)
		}
	case <-time.After(5 * time.Second):
		t.Error("an honest frame did not arrive")
	}
}

// settle waits until n NICs are attached and have announced themselves.
func settle(t *testing.T, s *usernet.Switch, n int) {
	t.Helper()
	for range 200 {
		connected := 0
		for _, ep := range s.Endpoints() {
			if ep.Connected {
				connected++
			}
		}
		if connected == n {
			time.Sleep(50 * time.Millisecond)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not all of %d NICs are attached", n)
}

func drain(g *guest) {
	for {
		select {
		case <-g.raw:
		default:
			return
		}
	}
}

func TestPingsOfWhatIsNotTheGuestsBusinessAreNotAnswered(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	gateway := s.GatewayMAC()
	settle(t, s, 1)
	for dst, want := range map[string]bool{"10.77.0.1": true, "169.254.169.254": false, "10.77.0.50": false} {
		drain(g)
		if err := g.sendFrame(pingFrame(g.ep.MAC, gateway[:], g.ep.IP, netip.MustParseAddr(dst))); err != nil {
			t.Fatal(err)
		}
		got := false
		select {
		case <-g.raw:
			got = true
		case <-time.After(200 * time.Millisecond):
		}
		if got != want {
			t.Errorf("ping of %s answered: %t, want %t", dst, got, want)
		}
	}
}

func pingFrame(srcMAC, dstMAC []byte, src, dst netip.Addr) []byte {
	f := udpFrame(srcMAC, dstMAC, src, dst)
	ip := header.IPv4(f[header.EthernetMinimumSize:])
	ip[9] = uint8(header.ICMPv4ProtocolNumber)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	icmp := header.ICMPv4(ip[header.IPv4MinimumSize:])
	clear(icmp)
	icmp.SetType(header.ICMPv4Echo)
	icmp.SetIdent(77)
	icmp.SetSequence(3)
	copy(icmp[header.ICMPv4MinimumSize:], "data")
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	return f
}

func TestPingsGoOutWhereTheHostMayPing(t *testing.T) {
	own := hostAddress(t)
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	gateway := s.GatewayMAC()
	settle(t, s, 1)
	drain(g)
	if err := g.sendFrame(pingFrame(g.ep.MAC, gateway[:], g.ep.IP, own)); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-g.raw:
		ip := header.IPv4(f[header.EthernetMinimumSize:])
		reply := header.ICMPv4(ip.Payload())
		if !ip.IsValid(len(ip)) || !ip.IsChecksumValid() || ip.SourceAddress() != tcpip.AddrFrom4(own.As4()) ||
			reply.Type() != header.ICMPv4EchoReply || reply.Ident() != 77 || reply.Sequence() != 3 ||
			string(reply[header.ICMPv4MinimumSize:]) != "data" || header.ICMPv4Checksum(reply, 0) != reply.Checksum() {
			t.Errorf("the echo is %x", f)
		}
	case <-time.After(5 * time.Second):
		t.Error("no echo")
	}
}

// hostAddress is an address of this host that is not on its loopback interface,
// where this account may ping it.
func hostAddress(t *testing.T) netip.Addr {
	t.Helper()
	c, err := icmp.ListenPacket("udp4", "127.0.0.1")
	if err != nil {
		c, err = icmp.ListenPacket("ip4:icmp", "127.0.0.1")
	}
	if err != nil {
		testenv.Skip(t, testenv.Root, "ping: %v", err)
	}
	_ = c.Close()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	testenv.Skip(t, testenv.Address, "this host has none but loopback")
	return netip.Addr{}
}

func TestFrameBeyondTheFramingClosesThePort(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	if err := g.sendFrame(make([]byte, usernet.MaxFrame)); err != nil {
		t.Fatal(err)
	}
	dropped(t, s, 1)
	if _, err := g.conn.Write(binary.BigEndian.AppendUint32(nil, 1<<31)); err != nil {
		t.Fatal(err)
	}
	for range 250 {
		if !s.Endpoints()[0].Connected {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s.Endpoints()[0].Connected {
		t.Error("the NIC is still attached")
	}
	// The endpoint lives on and takes a NIC again.
	port := hostEcho(t)
	again := plug(t, g.ep)
	c, err := again.dial(t, fmt.Sprintf("10.77.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, c, "back"); got != "backbye" {
		t.Errorf("echo answered %q", got)
	}
}

func TestGuestThatDoesNotReadDelaysNobody(t *testing.T) {
	s := newSwitch(t, nil)
	stuck, err := s.AddEndpoint(usernet.Endpoint{ID: "stuck"})
	if err != nil {
		t.Fatal(err)
	}
	nic, err := net.Dial(usernet.PortNetwork(), stuck.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer nic.Close()
	a := boot(t, s, usernet.Endpoint{ID: "a"})
	settle(t, s, 2)
	flood := udpFrame(a.ep.MAC, stuck.MAC, a.ep.IP, stuck.IP)
	flood = append(flood, make([]byte, 60000)...)
	for range 300 {
		if err := a.sendFrame(flood); err != nil {
			t.Fatal(err)
		}
	}
	port := hostEcho(t)
	start := time.Now()
	c, err := a.dial(t, fmt.Sprintf("10.77.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, c, "still here"); got != "still herebye" {
		t.Errorf("echo answered %q", got)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	dropped(t, s, 100)
}

func TestConnectionsEndWithTheNIC(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 7}}})
	g.listenEcho(t, 7)
	c, err := net.Dial("tcp", published(s, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "x")
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = g.conn.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("connection after its guest was killed: %v", err)
	}
}

func TestConnectionsOfAnEndpointAreBounded(t *testing.T) {
	s := newSwitch(t, nil)
	s.SetConnLimit(3)
	port := hostEcho(t)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	other := boot(t, s, usernet.Endpoint{ID: "b"})
	addr := fmt.Sprintf("10.77.0.1:%d", port)
	for range 3 {
		c, err := g.dial(t, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if c, err := g.dial(t, addr); err == nil {
		_ = c.Close()
		t.Error("a fourth connection was let through")
	}
	c, err := other.dial(t, addr)
	if err != nil {
		t.Fatalf("another endpoint suffers: %v", err)
	}
	_ = c.Close()
}

func TestHandshakeThatIsNeverFinishedHoldsNothingUp(t *testing.T) {
	s := newSwitch(t, nil)
	port := hostEcho(t)
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	gateway := s.GatewayMAC()
	f := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize)
	copy(f, udpFrame(g.ep.MAC, gateway[:], g.ep.IP, netip.MustParseAddr("10.77.0.1")))
	ip := header.IPv4(f[header.EthernetMinimumSize:])
	ip.SetTotalLength(uint16(len(ip)))
	ip[9] = uint8(header.TCPProtocolNumber)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	syn := header.TCP(ip[header.IPv4MinimumSize:])
	// Not the guest's stack, which would answer with a reset.
	_ = g.stack.DisableNIC(1)
	for i := range uint16(10) {
		clear(syn)
		syn.Encode(&header.TCPFields{
			SrcPort: 1000 + i, DstPort: port, SeqNum: 1, DataOffset: header.TCPMinimumSize,
			Flags: header.TCPFlagSyn, WindowSize: 1000,
		})
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(syn)))
		syn.SetChecksum(^syn.CalculateChecksum(sum))
		if err := g.sendFrame(f); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	start := time.Now()
	if err := s.RemoveEndpoint("a"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("removal took %s", took)
	}
}
