// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"byre.dev/byre/internal/usernet"
)

// FuzzNoFrameBringsTheNetworkDown sends what a guest may send, its own
// addresses in front of anything at all.
func FuzzNoFrameBringsTheNetworkDown(f *testing.F) {
	s, err := usernet.NewSwitch(usernet.Config{
		Name: "fuzz", Subnet: netip.MustParsePrefix("10.77.0.0/24"), Internal: true,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	ep, err := s.AddEndpoint(usernet.Endpoint{ID: "a"})
	if err != nil {
		f.Fatal(err)
	}
	gateway := s.GatewayMAC()
	for _, dst := range []string{"10.77.0.1", "10.77.0.255", "224.0.0.1", "192.0.2.7", "127.0.0.1"} {
		ip := netip.MustParseAddr(dst)
		f.Add(udpFrame(ep.MAC, gateway[:], ep.IP, ip), true)
		f.Add(pingFrame(ep.MAC, gateway[:], ep.IP, ip), true)
	}
	f.Add(arpFrame(ep.MAC, ep.MAC, ep.IP), true)
	f.Add(bytes.Repeat([]byte{0x46}, 100), false)
	f.Fuzz(func(_ *testing.T, frame []byte, mend bool) {
		if len(frame) >= header.EthernetMinimumSize {
			copy(frame[6:], ep.MAC)
		}
		if mend && len(frame) >= header.EthernetMinimumSize+header.IPv4MinimumSize {
			mendIPv4(frame, ep, gateway)
		}
		s.Forward("a", frame)
	})
}

// mendIPv4 makes the frame one whose header gets past the first checks.
func mendIPv4(frame []byte, ep usernet.Endpoint, gateway [6]byte) {
	copy(frame, gateway[:])
	binary.BigEndian.PutUint16(frame[12:], uint16(header.IPv4ProtocolNumber))
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	src := ep.IP.As4()
	copy(ip[12:16], src[:])
	ip[0] = 4<<4 | ip[0]&15
	ip.SetTotalLength(uint16(len(ip)))
	ip.SetChecksum(0)
	if int(ip.HeaderLength()) <= len(ip) {
		ip.SetChecksum(^ip.CalculateChecksum())
	}
}
