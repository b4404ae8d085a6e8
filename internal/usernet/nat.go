// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// dialTimeout bounds a dial to the outside; guests give up after about that
// time by themselves.
const dialTimeout = 60 * time.Second

// outside returns where on the host's networks a guest's packet for dst goes:
// the gateway's address stands for the host's loopback interface. It says no
// to what is no business of a guest: addresses of its own network, which are
// reached directly, multicast, and link-local addresses, where clouds serve
// the host's credentials.
func (s *Switch) outside(dst tcpip.Address, port uint16) (netip.AddrPort, bool) {
	ip := fromAddress(dst)
	switch {
	case s.cfg.Internal:
		return netip.AddrPort{}, false
	case ip == s.cfg.Gateway:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), !s.cfg.NoHost
	case s.cfg.Subnet.Contains(ip), !ip.IsGlobalUnicast(), ip.As4()[0] == 0, ip.As4()[0] >= 224:
		return netip.AddrPort{}, false
	case s.cfg.NoHost && isHostAddress(ip):
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, port), true
}

// natTCP takes a guest's connection to the outside. The guest's handshake ends
// only when the host's has, so that a refusal is seen as one. gVisor runs it in
// a goroutine of its own.
func (s *Switch) natTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	ep := s.table.Load().byIP[fromAddress(id.RemoteAddress)]
	dst, ok := s.outside(id.LocalAddress, id.LocalPort)
	if ep == nil || !ok {
		r.Complete(true)
		return
	}
	ctx, end, ok := ep.conns.begin()
	if !ok {
		s.log.Debug("connection refused: too many", "endpoint", ep.spec.ID, "limit", maxConns)
		r.Complete(true)
		return
	}
	defer end()
	host, err := dialOutside(ctx, dst)
	if err != nil {
		s.log.Debug("connection refused", "endpoint", ep.spec.ID, "err", err)
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	guest, terr := r.CreateEndpoint(&wq)
	r.Complete(terr != nil)
	if terr != nil {
		reset(host)
		return
	}
	guest.SocketOptions().SetKeepAlive(true)
	relay(ctx, gonet.NewTCPConn(&wq, guest), host)
}

// dialOutside connects to where outside said. What listens on the host's ::1
// alone, as some development servers do, is on its loopback interface as well.
func dialOutside(ctx context.Context, dst netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp4", dst.String())
	if err != nil && dst.Addr().IsLoopback() {
		six := netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port())
		if c, err6 := dialer.DialContext(ctx, "tcp6", six.String()); err6 == nil {
			conn, err = c, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// natUDP takes the first datagram of a guest to somewhere outside. gVisor calls
// it from the packet's path: it must not block.
func (s *Switch) natUDP(r *udp.ForwarderRequest) {
	id := r.ID()
	ep := s.table.Load().byIP[fromAddress(id.RemoteAddress)]
	dst, ok := s.outside(id.LocalAddress, id.LocalPort)
	if ep == nil || !ok {
		return
	}
	host, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(dst))
	if err != nil {
		s.log.Debug("datagram dropped", "endpoint", ep.spec.ID, "err", err)
		return
	}
	var wq waiter.Queue
	guest, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		_ = host.Close()
		return
	}
	f := newFlow(gonet.NewUDPConn(&wq, guest))
	f.onEnd(host)
	if !ep.flows.start(f, func() { f.copy(host, f.guest) }, func() { f.copy(f.guest, host) }) {
		f.end()
	}
}

// isHostAddress says whether ip is an address of one of the host's interfaces.
func isHostAddress(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		// Not to know is to refuse.
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip.AsSlice()) {
			return true
		}
	}
	return false
}
