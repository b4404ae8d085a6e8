// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"errors"
	"net/netip"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	nicID = 1
	// maxTCPBuffer bounds each direction of one TCP connection. The way to a
	// guest is short: what it needs is its rate times well under a millisecond.
	maxTCPBuffer = 1 << 20
	// synRetries bounds how long a handshake with a guest that does not finish
	// it is kept, to half a minute.
	synRetries = 4
)

// gateway is the network's own host: the netstack behind its first address.
type gateway struct {
	mac   macAddr
	ip    netip.Addr
	link  *tap.LinkEndpoint
	stack *stack.Stack
}

func newGateway(s *Switch) (*gateway, error) {
	mac := deriveMAC(s.cfg.Name + "/gateway")
	g := &gateway{mac: macAddr(mac), ip: s.cfg.Gateway}
	link, err := tap.NewLinkEndpoint(false, uint32(s.cfg.MTU), mac.String(), g.ip.String(), nil)
	if err != nil {
		return nil, err
	}
	link.Connect(&delivery{s})
	g.link = link
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := g.configure(s.cfg.Subnet); err != nil {
		g.stack.Destroy()
		return nil, err
	}
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(g.stack, 0, maxDials, s.natTCP).HandlePacket)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(g.stack, s.natUDP).HandlePacket)
	return g, nil
}

// configure gives the stack its address, its route and its limits. It takes
// packets for any address, because NAT does.
func (g *gateway) configure(subnet netip.Prefix) error {
	network, err := tcpip.NewSubnet(toAddress(subnet.Addr()), tcpip.MaskFromBytes(mask(subnet)))
	if err != nil {
		return err
	}
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	congestion := tcpip.CongestionControlOption("cubic")
	retries := tcpip.TCPSynRetriesOption(synRetries)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxTCPBuffer / 2, Max: maxTCPBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxTCPBuffer / 2, Max: maxTCPBuffer}
	address := tcpip.AddressWithPrefix{Address: toAddress(g.ip), PrefixLen: subnet.Bits()}
	for _, e := range []tcpip.Error{
		g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack),
		g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate),
		g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &congestion),
		g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &retries),
		g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send),
		g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &receive),
		g.stack.CreateNIC(nicID, g.link),
		g.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address,
		}, stack.AddressProperties{}),
		g.stack.SetSpoofing(nicID, true),
		g.stack.SetPromiscuousMode(nicID, true),
	} {
		if e != nil {
			return errors.New(e.String())
		}
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: network, NIC: nicID}})
	return nil
}

// receive takes a frame that is for the gateway. The frame is the caller's
// again when receive returns.
func (g *gateway) receive(frame []byte) {
	proto := header.Ethernet(frame).Type()
	packet := frame[ethernetSize:]
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	g.link.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// outsidePing says whether a frame is a ping for another address. The stack
// would answer for any address in the world, and a false echo is worse than
// none.
func (g *gateway) outsidePing(frame []byte) bool {
	ip := header.IPv4(frame[ethernetSize:])
	return header.Ethernet(frame).Type() == header.IPv4ProtocolNumber &&
		ip.TransportProtocol() == header.ICMPv4ProtocolNumber &&
		ip.DestinationAddress() != toAddress(g.ip)
}

// addNeighbor makes known where an address is, so that the gateway need not ask
// and cannot be told otherwise.
func (g *gateway) addNeighbor(ip netip.Addr, mac macAddr) {
	// It fails only for a NIC or a protocol that is not there.
	_ = g.stack.AddStaticNeighbor(nicID, ipv4.ProtocolNumber, toAddress(ip), mac.link())
}

func (g *gateway) removeNeighbor(ip netip.Addr) {
	_ = g.stack.RemoveNeighbor(nicID, ipv4.ProtocolNumber, toAddress(ip))
}

// abort ends at once what the stack still holds of connections with a guest
// that is gone: it would try to reach it for minutes.
func (g *gateway) abort(ip netip.Addr) {
	for _, e := range g.stack.RegisteredEndpoints() {
		c, ok := e.(tcpip.Endpoint)
		if !ok {
			continue
		}
		// GetRemoteAddress knows no peer before the handshake has ended.
		info, ok := c.Info().(*stack.TransportEndpointInfo)
		if ok && info.ID.RemoteAddress == toAddress(ip) {
			c.Abort()
		}
	}
}

// close ends the stack. No NIC may be attached any more.
func (g *gateway) close() { g.stack.Destroy() }

func (g *gateway) address(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: toAddress(g.ip), Port: port}
}

func mask(p netip.Prefix) []byte {
	m := ^uint32(0) << (32 - p.Bits())
	return []byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
}
