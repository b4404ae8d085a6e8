// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// macAddr is an Ethernet address as a map key.
type macAddr [6]byte

const ethernetSize = header.EthernetMinimumSize

// forward takes a frame with its length prefix from an endpoint to where it
// goes. The frame is the caller's again when forward returns.
func (s *Switch) forward(from *endpoint, prefixed []byte) {
	frame := prefixed[prefixSize:]
	if len(frame) > s.cfg.MTU+ethernetSize || !from.maySend(frame) {
		s.dropped.Add(1)
		return
	}
	dst := macAddr(frame[:6])
	switch {
	case dst == s.gateway.mac && s.gateway.outsidePing(frame):
		s.ping(from, frame[ethernetSize:])
	case dst == s.gateway.mac:
		s.gateway.receive(frame)
	case dst[0]&1 != 0:
		s.flood(from, prefixed)
		if !s.gateway.outsidePing(frame) {
			s.gateway.receive(frame)
		}
	default:
		if to := s.table.Load().byMAC[dst]; to == nil || !to.port.send(append([]byte(nil), prefixed...)) {
			s.dropped.Add(1)
		}
	}
}

// maySend says whether a frame is one that the endpoint may send: IPv4 or ARP
// from its own addresses. A guest that asks who has an address before it takes
// it (RFC 5227) names none as the sender.
func (ep *endpoint) maySend(frame []byte) bool {
	if len(frame) < ethernetSize || macAddr(frame[6:12]) != ep.mac {
		return false
	}
	own := ep.ip.As4()
	body := frame[ethernetSize:]
	switch header.Ethernet(frame).Type() {
	case header.IPv4ProtocolNumber:
		return len(body) >= header.IPv4MinimumSize && [4]byte(body[12:16]) == own
	case header.ARPProtocolNumber:
		arp := header.ARP(body)
		if !arp.IsValid() || macAddr(arp.HardwareAddressSender()) != ep.mac {
			return false
		}
		sender := [4]byte(arp.ProtocolAddressSender())
		return sender == own || sender == [4]byte{}
	}
	return false
}

// flood copies a frame to every endpoint but the sender.
func (s *Switch) flood(from *endpoint, prefixed []byte) {
	for _, to := range s.table.Load().byMAC {
		if to != from && !to.port.send(append([]byte(nil), prefixed...)) {
			s.dropped.Add(1)
		}
	}
}

// DeliverNetworkPacket takes a frame from the gateway to the endpoint that it
// is for. It implements tap.NetworkSwitch.
func (d *delivery) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	frame := make([]byte, prefixSize, prefixSize+pkt.Size())
	for _, part := range pkt.AsSlices() {
		frame = append(frame, part...)
	}
	if len(frame) < prefixSize+ethernetSize {
		return
	}
	putPrefix(frame)
	dst := macAddr(frame[prefixSize : prefixSize+6])
	if dst[0]&1 != 0 {
		d.s.flood(nil, frame)
		return
	}
	if to := d.s.table.Load().byMAC[dst]; to == nil || !to.port.send(frame) {
		d.s.dropped.Add(1)
	}
}

// delivery is the switch as the gateway's link sees it.
type delivery struct{ s *Switch }

// announce tells the network, in the name of an endpoint whose NIC was just
// attached, which MAC its address now belongs to: another guest may have had
// the address before.
func (s *Switch) announce(ep *endpoint) {
	frame := make([]byte, prefixSize+ethernetSize+header.ARPSize)
	putPrefix(frame)
	header.Ethernet(frame[prefixSize:]).Encode(&header.EthernetFields{
		SrcAddr: ep.mac.link(),
		DstAddr: header.EthernetBroadcastAddress,
		Type:    header.ARPProtocolNumber,
	})
	arp := header.ARP(frame[prefixSize+ethernetSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	ip := ep.ip.As4()
	copy(arp.HardwareAddressSender(), ep.mac[:])
	copy(arp.ProtocolAddressSender(), ip[:])
	copy(arp.ProtocolAddressTarget(), ip[:])
	s.flood(ep, frame)
}

// putPrefix writes the length of a frame in front of it.
func putPrefix(prefixed []byte) {
	binary.BigEndian.PutUint32(prefixed, uint32(len(prefixed)-prefixSize))
}

func (m macAddr) link() tcpip.LinkAddress { return tcpip.LinkAddress(m[:]) }

// fromAddress converts an IPv4 address of gVisor's.
func fromAddress(a tcpip.Address) netip.Addr { return netip.AddrFrom4(a.As4()) }

// toAddress converts an IPv4 address to gVisor's.
func toAddress(ip netip.Addr) tcpip.Address { return tcpip.AddrFrom4(ip.As4()) }
