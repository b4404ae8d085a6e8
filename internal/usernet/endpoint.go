// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// Endpoint is one NIC on a network: who it is and what it is called.
type Endpoint struct {
	// ID names the endpoint on its network, usually the container's ID.
	ID string
	// MAC is the NIC's address; empty means one derived from ID.
	MAC net.HardwareAddr
	// IP is the endpoint's address; zero means the next free one.
	IP netip.Addr
	// Names are what the others on the network find it by in DNS, without
	// regard to case. Several endpoints may share a name.
	Names []string
	// Ports are published on the host as long as the endpoint exists.
	Ports []PortMapping
	// DNS are the resolvers for what is no name on the network; none means
	// those of the host.
	DNS []netip.Addr
	// Peers are the directories of the other networks that the endpoint's
	// container is on. Their names are found from here too, after the names of
	// this network, so that one nameserver serves a guest with several NICs.
	Peers []string

	// The rest is the switch's answer and is ignored in a request.

	// Subnet is the network's prefix, for the guest's route to its neighbours.
	Subnet netip.Prefix
	// Gateway is the guest's default route; zero where there is none.
	Gateway netip.Addr
	// Nameserver answers DNS for the guest.
	Nameserver netip.Addr
	// MTU is what the guest must set on its NIC.
	MTU int
	// Socket is the Unix socket for the NIC (vm.NIC.Socket); empty on a switch
	// without a directory.
	Socket string
	// Connected says that a NIC is attached at present.
	Connected bool
}

// PortMapping publishes a port of an endpoint on the host.
type PortMapping struct {
	// Proto is "tcp" or "udp".
	Proto string
	// HostIP is the address to listen on; zero means 0.0.0.0 and, where the host
	// has IPv6, ::, of which two mappings come out. The guest sees an IPv4
	// connection of IPv6 clients, too.
	HostIP netip.Addr
	// HostPort is the port to listen on; 0 means one that is free.
	HostPort uint16
	// HostPortEnd, when above HostPort, makes it a range: the first free port
	// of it is taken.
	HostPortEnd uint16
	// GuestPort is where the guest listens.
	GuestPort uint16
}

const endpointDir = "ep"

// endpoint is an Endpoint at work.
type endpoint struct {
	spec  Endpoint
	mac   macAddr
	ip    netip.Addr
	port  *port
	conns *tracker
	ports *tracker
	flows *flowSet
	// dns are the resolvers of the endpoint's own, host:port.
	dns []string
	// queries counts those that wait for a resolver.
	queries atomic.Int32
	// pings counts those that wait for an echo.
	pings atomic.Int32
}

// AddEndpoint creates an endpoint and publishes its ports, all or nothing, and
// returns it with everything filled in. It fails with errdefs' ErrAlreadyExists
// when ID, MAC or IP are taken, and with ErrPortInUse when a port is.
func (s *Switch) AddEndpoint(spec Endpoint) (Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep, err := s.addLocked(spec)
	if err != nil {
		return Endpoint{}, fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, spec.ID, err)
	}
	return ep.describe(), nil
}

func (s *Switch) addLocked(spec Endpoint) (*endpoint, error) {
	if s.closed {
		return nil, fmt.Errorf("the network is closed: %w", errdefs.ErrUnavailable)
	}
	if spec.ID == "" || len(spec.ID) > 256 {
		return nil, fmt.Errorf("give an ID of 1 to 256 bytes: %w", errdefs.ErrInvalidArgument)
	}
	if _, ok := s.endpoints[spec.ID]; ok {
		return nil, fmt.Errorf("it exists: %w", errdefs.ErrAlreadyExists)
	}
	if err := s.addressLocked(&spec); err != nil {
		return nil, err
	}
	if err := checkNames(spec.Names); err != nil {
		return nil, err
	}
	ep := &endpoint{spec: spec, mac: macAddr(spec.MAC), ip: spec.IP}
	ep.conns = newTracker(s.connLimit)
	ep.ports = newTracker(2 * len(spec.Ports)) // a mapping listens on two addresses at the most
	ep.flows = &flowSet{}
	for _, server := range spec.DNS {
		ep.dns = append(ep.dns, netip.AddrPortFrom(server, 53).String())
	}
	if err := s.openLocked(ep); err != nil {
		s.release(ep)
		return nil, err
	}
	s.endpoints[spec.ID] = ep
	s.lastIP, s.lastUsed = ep.ip, time.Now()
	s.publishTableLocked()
	s.gateway.addNeighbor(ep.ip, ep.mac)
	s.log.Info("endpoint added", "endpoint", spec.ID, "ip", ep.ip)
	return ep, nil
}

// openLocked opens the endpoint's socket and ports.
func (s *Switch) openLocked(ep *endpoint) error {
	ep.port = &port{s: s, ep: ep}
	ep.spec.Subnet, ep.spec.MTU, ep.spec.Nameserver = s.cfg.Subnet, s.cfg.MTU, s.cfg.Gateway
	ep.spec.Gateway = netip.Addr{}
	ep.spec.Socket, ep.spec.Connected = "", false
	if !s.cfg.Internal {
		ep.spec.Gateway = s.cfg.Gateway
	} else if len(ep.spec.Ports) > 0 {
		return fmt.Errorf("the network is internal, it publishes no ports: %w", errdefs.ErrInvalidArgument)
	}
	if s.cfg.Dir != "" {
		path := filepath.Join(s.cfg.Dir, endpointDir, socketName(ep.spec.ID))
		if err := ep.port.listen(path); err != nil {
			return err
		}
		ep.spec.Socket = path
	}
	return s.publish(ep)
}

// RemoveEndpoint takes an endpoint away with its NIC, ports, names and
// connections. It returns when all are gone, and fails with errdefs'
// ErrNotFound when there is none of that ID.
func (s *Switch) RemoveEndpoint(id string) error {
	s.mu.Lock()
	ep, ok := s.endpoints[id]
	if ok {
		delete(s.endpoints, id)
		s.lastUsed = time.Now()
		s.publishTableLocked()
		s.gateway.removeNeighbor(ep.ip)
	}
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, id, errdefs.ErrNotFound)
	}
	s.release(ep)
	s.log.Info("endpoint removed", "endpoint", id)
	return nil
}

// release ends what an endpoint owns; the table no longer holds it.
func (s *Switch) release(ep *endpoint) {
	ep.ports.stop()
	ep.conns.stop()
	ep.port.close()
	ep.flows.close()
	<-ep.ports.done()
	gone := ep.conns.done()
	for {
		// A handshake that the guest does not finish ends by this alone, and
		// one may begin until the last goroutine is gone.
		s.gateway.abort(ep.ip)
		select {
		case <-gone:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// SetNames replaces the names of an endpoint.
func (s *Switch) SetNames(id string, names []string) error {
	if err := checkNames(names); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ep, ok := s.endpoints[id]
	if !ok {
		return fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, id, errdefs.ErrNotFound)
	}
	ep.spec.Names = slices.Clone(names)
	return nil
}

// Endpoints returns the endpoints, ordered by address.
func (s *Switch) Endpoints() []Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Endpoint, 0, len(s.endpoints))
	for _, ep := range s.endpoints {
		all = append(all, ep.describe())
	}
	slices.SortFunc(all, func(a, b Endpoint) int { return a.IP.Compare(b.IP) })
	return all
}

// describe returns a copy of what is known of the endpoint; Switch.mu is held.
func (ep *endpoint) describe() Endpoint {
	e := ep.spec
	e.MAC = slices.Clone(e.MAC)
	e.Names = slices.Clone(e.Names)
	e.Ports = slices.Clone(e.Ports)
	e.DNS = slices.Clone(e.DNS)
	e.Peers = slices.Clone(e.Peers)
	e.Connected = ep.port.connected()
	return e
}

// addressLocked fills in or checks the addresses of a new endpoint.
func (s *Switch) addressLocked(spec *Endpoint) error {
	t := s.table.Load()
	switch {
	case !spec.IP.IsValid():
		if err := s.allocateLocked(spec, t); err != nil {
			return err
		}
	case !spec.IP.Is4():
		return fmt.Errorf("address %s: byre's networks carry IPv4 only, leave out --ip6: %w", spec.IP, errdefs.ErrInvalidArgument)
	case !usable(s.cfg.Subnet, spec.IP):
		return fmt.Errorf("address %s is not a host address of %s: %w", spec.IP, s.cfg.Subnet, errdefs.ErrInvalidArgument)
	case spec.IP == s.cfg.Gateway || t.byIP[spec.IP] != nil:
		return fmt.Errorf("address %s is in use: %w", spec.IP, errdefs.ErrAlreadyExists)
	}
	if len(spec.MAC) == 0 {
		for n := 0; len(spec.MAC) == 0 || t.byMAC[macAddr(spec.MAC)] != nil; n++ {
			spec.MAC = deriveMAC(fmt.Sprintf("%s/%s/%d", s.cfg.Name, spec.ID, n))
		}
		return nil
	}
	if len(spec.MAC) != 6 || spec.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC address %s is not that of one NIC: %w", spec.MAC, errdefs.ErrInvalidArgument)
	}
	if mac := macAddr(spec.MAC); mac == s.gateway.mac || t.byMAC[mac] != nil {
		return fmt.Errorf("MAC address %s is in use: %w", spec.MAC, errdefs.ErrAlreadyExists)
	}
	spec.MAC = slices.Clone(spec.MAC)
	return nil
}

// allocateLocked picks the next free address after the one given last: an
// address is reused as late as possible.
func (s *Switch) allocateLocked(spec *Endpoint, t *table) error {
	pool := s.cfg.pool()
	if !pool.Contains(s.lastIP) {
		s.lastIP = pool.Addr()
	}
	for ip := s.lastIP.Next(); ; ip = ip.Next() {
		if !pool.Contains(ip) {
			ip = pool.Addr()
		}
		if usable(s.cfg.Subnet, ip) && ip != s.cfg.Gateway && t.byIP[ip] == nil {
			spec.IP = ip
			return nil
		}
		if ip == s.lastIP {
			return fmt.Errorf("no address is free in %s: %w", pool, errdefs.ErrResourceExhausted)
		}
	}
}

// deriveMAC makes a locally administered unicast address from a seed.
func deriveMAC(seed string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(seed))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// socketName is the file name of an endpoint's socket: short, because socket
// paths are, and without anything an ID might hold.
func socketName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:6]) + ".sock"
}

func checkNames(names []string) error {
	for _, n := range names {
		if n == "" || len(n) > 253 || strings.ContainsAny(n, " \t\r\n\x00") {
			return fmt.Errorf("name %q cannot be a name in DNS: %w", n, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
