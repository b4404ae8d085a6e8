// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// ErrPortInUse says that a host port cannot be published because something
// listens there already.
var ErrPortInUse = fmt.Errorf("host port in use: %w", errdefs.ErrAlreadyExists)

// guestDialTimeout bounds how long a client of a published port waits for the
// guest to answer at all.
const guestDialTimeout = 10 * time.Second

// publish opens the host ports of an endpoint and fills in those that were left
// to choice. On failure the caller releases the endpoint.
func (s *Switch) publish(ep *endpoint) error {
	ports := make([]PortMapping, 0, len(ep.spec.Ports))
	chosen := map[PortMapping]uint16{}
	for _, m := range ep.spec.Ports {
		if err := m.complete(); err != nil {
			return err
		}
		// The IPv4 and the IPv6 side of one request get the same port if they can.
		pair := m
		pair.HostIP = netip.Addr{}
		open, err := bindFirst(m, chosen[pair])
		if err != nil {
			return err
		}
		chosen[pair] = open[0].mapping.HostPort
		for _, b := range open {
			ports = append(ports, b.mapping)
			b.serve(s, ep)
		}
	}
	ep.spec.Ports = ports
	return nil
}

// complete checks the mapping and fills in its defaults, but for the address.
func (m *PortMapping) complete() error {
	if m.Proto == "" {
		m.Proto = "tcp"
	}
	if m.Proto != "tcp" && m.Proto != "udp" {
		return fmt.Errorf("publish port %d/%s: only tcp and udp can be published: %w",
			m.GuestPort, m.Proto, errdefs.ErrInvalidArgument)
	}
	badRange := m.HostPortEnd != 0 && (m.HostPort == 0 || m.HostPortEnd < m.HostPort)
	if m.GuestPort == 0 || badRange {
		return fmt.Errorf("publish %d-%d:%d/%s: not a range of ports: %w",
			m.HostPort, m.HostPortEnd, m.GuestPort, m.Proto, errdefs.ErrInvalidArgument)
	}
	m.HostIP = m.HostIP.Unmap()
	return nil
}

// addresses are those that the mapping is to listen on. Without one of its own they
// are all of the host: who asks for localhost may be given ::1 first.
func (m PortMapping) addresses() []netip.Addr {
	switch {
	case m.HostIP.IsValid():
		return []netip.Addr{m.HostIP}
	case hostHasIPv6():
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	default:
		return []netip.Addr{netip.IPv4Unspecified()}
	}
}

// hostHasIPv6 says whether programs can listen on this host's IPv6 addresses.
var hostHasIPv6 = sync.OnceValue(func() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
})

// choices is how many ports of the kernel's choice are tried, until one is free on
// all addresses.
const choices = 16

// bindFirst opens the first port of the mapping that is free on all of its
// addresses, beginning with the preferred one.
func bindFirst(m PortMapping, preferred uint16) ([]bound, error) {
	last := max(m.HostPort, m.HostPortEnd)
	var tries []uint16
	if preferred != 0 && preferred != m.HostPort {
		tries = append(tries, preferred)
	}
	if m.HostPort == 0 {
		tries = append(tries, make([]uint16, choices)...)
	} else {
		for p := int(m.HostPort); p <= int(last); p++ {
			tries = append(tries, uint16(p))
		}
	}
	addresses := m.addresses()
	var first error
	for _, p := range tries {
		open, err := bindAll(m, addresses, p)
		if err == nil {
			return open, nil
		}
		if first == nil || len(tries) > 1 && !errors.Is(err, ErrPortInUse) {
			first = err
		}
		if !errors.Is(err, ErrPortInUse) && p != preferred {
			break
		}
	}
	if last > m.HostPort && errors.Is(first, ErrPortInUse) {
		return nil, fmt.Errorf("publish %s: all ports from %d to %d on %s are in use: choose others or stop what listens there: %w",
			m.Proto, m.HostPort, last, addresses[0], ErrPortInUse)
	}
	return nil, first
}

// bound is a host port that is open, and not yet served.
type bound struct {
	mapping PortMapping
	serve   func(*Switch, *endpoint)
	close   func() error
}

// bindAll opens one port on all addresses, or on none. Port 0 is the kernel's
// choice for the first address.
func bindAll(m PortMapping, addresses []netip.Addr, port uint16) ([]bound, error) {
	var all []bound
	for _, a := range addresses {
		m.HostIP = a
		b, err := bind(m, port)
		if err != nil {
			for _, open := range all {
				_ = open.close()
			}
			return nil, err
		}
		port = b.mapping.HostPort
		all = append(all, b)
	}
	return all, nil
}

// bind opens one port on the mapping's address.
func bind(m PortMapping, hostPort uint16) (bound, error) {
	family := "4"
	if m.HostIP.Is6() {
		family = "6"
	}
	addr := netip.AddrPortFrom(m.HostIP, hostPort)
	m.HostPortEnd = 0
	if m.Proto == "udp" {
		pc, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return bound{}, publishError(m, addr, err)
		}
		m.HostPort = pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		return bound{m, func(s *Switch, ep *endpoint) { s.serveUDP(ep, pc, m.GuestPort) }, pc.Close}, nil
	}
	l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return bound{}, publishError(m, addr, err)
	}
	m.HostPort = l.Addr().(*net.TCPAddr).AddrPort().Port()
	return bound{m, func(s *Switch, ep *endpoint) { s.serveTCP(ep, l, m.GuestPort) }, l.Close}, nil
}

// publishError says what is wrong with a port and what to do about it.
func publishError(m PortMapping, at netip.AddrPort, err error) error {
	what := fmt.Sprintf("publish %s/%s", at, m.Proto)
	switch {
	case errors.Is(err, errAddrInUse):
		return fmt.Errorf("%s: port %d on %s is already in use: choose another host port or stop what listens there: %w",
			what, at.Port(), at.Addr(), ErrPortInUse)
	case errors.Is(err, errAccess):
		return fmt.Errorf("%s: this account may not listen on port %d: choose one from 1024 up, or allow lower ones "+
			"on this host (Linux: sysctl net.ipv4.ip_unprivileged_port_start): %w",
			what, at.Port(), errdefs.ErrPermissionDenied)
	case errors.Is(err, errNoAddress):
		return fmt.Errorf("%s: this host has no address %s: %w", what, at.Addr(), errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// serveTCP takes connections on a published port until the endpoint goes.
func (s *Switch) serveTCP(ep *endpoint, l *net.TCPListener, guestPort uint16) {
	started := ep.ports.run(func(ctx context.Context) {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		for {
			conn, err := l.AcceptTCP()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				// Out of descriptors, usually: what is there must end first.
				s.log.Warn("published port cannot accept", "endpoint", ep.spec.ID, "port", l.Addr(), "err", err)
				if !sleep(ctx, 100*time.Millisecond) {
					return
				}
			case !ep.conns.run(func(ctx context.Context) { s.intoGuest(ctx, ep, conn, guestPort) }):
				reset(conn)
			}
		}
	})
	if !started {
		_ = l.Close()
	}
}

// intoGuest connects a client of a published port with the guest. The guest
// sees the gateway's address as the source.
func (s *Switch) intoGuest(ctx context.Context, ep *endpoint, client *net.TCPConn, guestPort uint16) {
	dialing, cancel := context.WithTimeout(ctx, guestDialTimeout)
	defer cancel()
	guest, err := gonet.DialTCPWithBind(dialing, s.gateway.stack, s.gateway.address(0),
		tcpip.FullAddress{NIC: nicID, Addr: toAddress(ep.ip), Port: guestPort}, ipv4.ProtocolNumber)
	if err != nil {
		s.log.Debug("published port: guest does not answer", "endpoint", ep.spec.ID, "port", guestPort, "err", err)
		reset(client)
		return
	}
	relay(ctx, guest, client)
}

// serveUDP takes datagrams on a published port until the endpoint goes. Each
// client is a flow.
func (s *Switch) serveUDP(ep *endpoint, pc *net.UDPConn, guestPort uint16) {
	clients := &udpClients{s: s, ep: ep, pc: pc, guestPort: guestPort, flows: map[netip.AddrPort]*flow{}}
	started := ep.ports.run(func(ctx context.Context) {
		stop := context.AfterFunc(ctx, func() { _ = pc.Close() })
		defer stop()
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			switch {
			case err == nil:
				clients.deliver(from, buf[:n])
			case nobodyListens(err):
				// About a client of before that went away.
			default:
				return
			}
		}
	})
	if !started {
		_ = pc.Close()
	}
}

// udpClients are the clients of a published UDP port.
type udpClients struct {
	s         *Switch
	ep        *endpoint
	pc        *net.UDPConn
	guestPort uint16

	// mu guards flows; flowSet.mu is not taken under it.
	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
}

// deliver passes a client's datagram to the guest. Only one goroutine calls it.
func (u *udpClients) deliver(from netip.AddrPort, data []byte) {
	u.mu.Lock()
	f := u.flows[from]
	u.mu.Unlock()
	if f == nil {
		if f = u.open(from); f == nil {
			return
		}
	}
	f.touch()
	// What the guest cannot take is lost, as datagrams are.
	_, _ = f.guest.Write(data)
}

// open starts the flow of a new client.
func (u *udpClients) open(from netip.AddrPort) *flow {
	local := u.s.gateway.address(0)
	remote := tcpip.FullAddress{NIC: nicID, Addr: toAddress(u.ep.ip), Port: u.guestPort}
	guest, err := gonet.DialUDP(u.s.gateway.stack, &local, &remote, ipv4.ProtocolNumber)
	if err != nil {
		u.s.log.Debug("datagram dropped", "endpoint", u.ep.spec.ID, "err", err)
		return nil
	}
	f := newFlow(guest)
	f.onEnd(closerFunc(func() {
		u.mu.Lock()
		delete(u.flows, from)
		u.mu.Unlock()
	}))
	u.mu.Lock()
	u.flows[from] = f
	u.mu.Unlock()
	if !u.ep.flows.start(f, func() { f.copy(toClient{u.pc, from}, guest) }) {
		f.end()
		return nil
	}
	return f
}

// toClient writes datagrams from a published port to one client.
type toClient struct {
	pc *net.UDPConn
	to netip.AddrPort
}

// Write sends one datagram.
func (c toClient) Write(b []byte) (int, error) { return c.pc.WriteToUDPAddrPort(b, c.to) }
