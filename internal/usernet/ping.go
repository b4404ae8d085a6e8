// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// maxPings bounds the pings of one endpoint that wait for an echo.
	maxPings = 64
	// pingTimeout is how long an echo is waited for.
	pingTimeout = 5 * time.Second
)

// ping passes a guest's echo request on to somewhere outside, where the host
// lets this account ping, and the echo back. It does not block and keeps
// nothing of packet, which is an IPv4 packet with ICMP.
func (s *Switch) ping(ep *endpoint, packet []byte) {
	ip := header.IPv4(packet)
	if !ip.IsValid(len(packet)) || ip.More() || ip.FragmentOffset() != 0 {
		return
	}
	request, err := icmp.ParseMessage(int(header.ICMPv4ProtocolNumber), ip.Payload())
	if err != nil || request.Type != ipv4.ICMPTypeEcho {
		return
	}
	dst, ok := s.outside(ip.DestinationAddress(), 0)
	if !ok {
		return
	}
	echo := *request.Body.(*icmp.Echo)
	echo.Data = append([]byte(nil), echo.Data...)
	if ep.pings.Add(1) > maxPings || !ep.conns.run(func(ctx context.Context) {
		defer ep.pings.Add(-1)
		if err := pingOutside(ctx, dst.Addr(), echo); err != nil {
			s.log.Debug("no echo", "endpoint", ep.spec.ID, "to", dst.Addr(), "err", err)
			return
		}
		ep.port.send(s.echoFrame(ep, dst.Addr(), echo))
	}) {
		ep.pings.Add(-1)
	}
}

// pingOutside returns nil when the echo has come.
func pingOutside(ctx context.Context, dst netip.Addr, echo icmp.Echo) error {
	// The kernel puts its own ID into what goes through a ping socket. A raw
	// socket, which only the administrator has, sees all echoes: a random ID
	// tells ours.
	echo.ID = rand.IntN(1 << 16)
	var to net.Addr = &net.UDPAddr{IP: dst.AsSlice()}
	conn, err := icmp.ListenPacket("udp4", "0.0.0.0")
	if err != nil {
		to = &net.IPAddr{IP: dst.AsSlice()}
		raw, rawErr := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		if rawErr != nil {
			return errors.Join(err, rawErr)
		}
		conn = raw
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &echo}
	data, err := request.Marshal(nil)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(pingTimeout)); err != nil {
		return err
	}
	if _, err := conn.WriteTo(data, to); err != nil {
		return err
	}
	_, raw := to.(*net.IPAddr)
	return awaitEcho(conn, echo, raw, len(data))
}

// awaitEcho reads until the echo of a request comes.
func awaitEcho(conn *icmp.PacketConn, echo icmp.Echo, sameID bool, size int) error {
	buf := make([]byte, size+header.IPv4MaximumHeaderSize)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(int(header.ICMPv4ProtocolNumber), buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		got, ok := m.Body.(*icmp.Echo)
		if ok && got.Seq == echo.Seq && (!sameID || got.ID == echo.ID) {
			return nil
		}
	}
}

// echoFrame is the echo as the guest sees it, with its length prefix.
func (s *Switch) echoFrame(ep *endpoint, from netip.Addr, echo icmp.Echo) []byte {
	const headers = ethernetSize + header.IPv4MinimumSize + header.ICMPv4MinimumSize
	frame := make([]byte, prefixSize+headers+len(echo.Data))
	putPrefix(frame)
	header.Ethernet(frame[prefixSize:]).Encode(&header.EthernetFields{
		SrcAddr: s.gateway.mac.link(), DstAddr: ep.mac.link(), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(frame[prefixSize+ethernetSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)),
		TTL:         64,
		Protocol:    uint8(header.ICMPv4ProtocolNumber),
		SrcAddr:     toAddress(from),
		DstAddr:     toAddress(ep.ip),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	reply := header.ICMPv4(ip.Payload())
	copy(reply[header.ICMPv4MinimumSize:], echo.Data)
	reply.SetType(header.ICMPv4EchoReply)
	reply.SetIdent(uint16(echo.ID))
	reply.SetSequence(uint16(echo.Seq))
	reply.SetChecksum(header.ICMPv4Checksum(reply, 0))
	return frame
}
