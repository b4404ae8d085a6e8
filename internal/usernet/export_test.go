// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"net/netip"
	"time"
)

// SetResolvers takes the place of the host's resolvers.
func (s *Switch) SetResolvers(servers []string) {
	r := s.dns.upstream
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers, r.read = servers, time.Now().Add(time.Hour)
}

// SetResolverPort moves the resolvers of an endpoint's own from port 53.
func (s *Switch) SetResolverPort(id string, port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.endpoints[id]
	for i, ip := range ep.spec.DNS {
		ep.dns[i] = netip.AddrPortFrom(ip, port).String()
	}
}

// SetConnLimit bounds the connections of endpoints added from here on.
func (s *Switch) SetConnLimit(n int) { s.connLimit = n }

// GatewayMAC is the gateway's address.
func (s *Switch) GatewayMAC() [6]byte { return s.gateway.mac }

// PortNetwork is what an endpoint's socket is dialed by.
func PortNetwork() string { return portNetwork() }

// MaxFrame is the longest frame that the framing allows.
const MaxFrame = maxFrame

// Forward takes a frame as if the endpoint's NIC had sent it.
func (s *Switch) Forward(id string, frame []byte) {
	prefixed := append(make([]byte, prefixSize), frame...)
	putPrefix(prefixed)
	s.forward(s.endpoints[id], prefixed)
}
