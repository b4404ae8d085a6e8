// SPDX-License-Identifier: Apache-2.0

// Package usernet is the user-mode network of utility VMs: no privileges, no
// tap devices, no bridge on the host.
//
// A [Switch] is one network. Every VM's NIC is an [Endpoint] with a socket of
// its own; frames go between endpoints directly, and everything else goes to
// the gateway, a gVisor stack that answers ARP, ping and DNS and turns TCP and
// UDP into connections of the host. [Serve] runs a switch in a process of its
// own, which outlives the daemon; [Ensure] starts that process, and a [Client]
// talks to it.
//
// The guest is hostile. An endpoint sends from its own MAC and IPv4 address or
// not at all, frame lengths are bounded before anything is allocated, each
// endpoint has its own bounded queue and its own share of connections, and a
// guest that does not read loses frames and delays nobody.
//
// Ownership: a switch owns its endpoints, an endpoint owns its sockets,
// published ports and connections; Close of the one closes the other and
// returns when their goroutines are gone. Lock order: Switch.mu, then the locks
// of an endpoint (port.mu, tracker.mu, flowSet.mu, frameQueue.mu), which are
// never held together. The data path takes none but frameQueue.mu.
package usernet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// Config describes one network's switch.
type Config struct {
	// Name is the network's name, for DNS (container.network), logs and errors.
	Name string
	// Subnet is the network's IPv4 prefix, from /8 to /29.
	Subnet netip.Prefix
	// Range is the part of Subnet that addresses are given from; zero means all
	// of it. Others of the subnet can be asked for.
	Range netip.Prefix
	// Gateway is the switch's own address; zero means the first of Range.
	Gateway netip.Addr
	// MTU is the largest IP packet on the network; 0 means DefaultMTU.
	MTU int
	// Internal keeps endpoints from everything but one another and DNS for
	// their names: no NAT, no host, no published ports.
	Internal bool
	// NoHost keeps endpoints from the services on the host's loopback
	// interface, which they otherwise reach by the gateway's address.
	NoHost bool
	// Dir is a private directory for the sockets; it is made with mode 0700.
	// Empty means none: NICs are handed over with Attach. Serve needs it.
	Dir string
	// IdleExit lets Serve return after no NIC was attached and nothing was
	// asked for that long; 0 means never. OrphanExit does it sooner while no
	// client holds the network (Client.Hold); 0 means that this is no matter.
	IdleExit, OrphanExit time.Duration
	// Log receives what happens; nil discards it.
	Log *slog.Logger `json:"-"`
}

// DefaultMTU is the MTU of a network that names none. TCP ends in the gateway,
// so that it need not fit any wire; the fewer packets the better.
const DefaultMTU = 65520

const (
	minMTU = 576
	maxMTU = 65535
	// maxSocketPath is the shortest limit of our systems (macOS) less one.
	maxSocketPath = 103
)

// Switch is a running network. Its methods are safe for concurrent use.
type Switch struct {
	cfg     Config
	log     *slog.Logger
	gateway *gateway
	dns     *dnsServer
	table   atomic.Pointer[table]
	dropped atomic.Uint64
	// connLimit is maxConns, but for tests.
	connLimit int

	// mu guards what follows and serialises changes of table.
	mu        sync.Mutex
	endpoints map[string]*endpoint
	lastIP    netip.Addr
	lastUsed  time.Time
	holders   map[net.Conn]struct{}
	closed    bool
	// holding waits for the holders.
	holding sync.WaitGroup
	// closeOnce makes Close wait for the first caller's work.
	closeOnce sync.Once
}

// table is what the data path looks up; it is replaced, never changed.
type table struct {
	byMAC map[macAddr]*endpoint
	byIP  map[netip.Addr]*endpoint
}

// NewSwitch starts a network in this process. The caller owns it and must
// Close it.
func NewSwitch(cfg Config) (*Switch, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Switch{
		cfg:       cfg,
		log:       cfg.Log.With("network", cfg.Name),
		endpoints: map[string]*endpoint{},
		holders:   map[net.Conn]struct{}{},
		lastIP:    cfg.Gateway,
		lastUsed:  time.Now(),
		connLimit: maxConns,
	}
	s.table.Store(&table{})
	if cfg.Dir != "" {
		if err := privateDir(filepath.Join(cfg.Dir, endpointDir)); err != nil {
			return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
		}
	}
	if s.gateway, err = newGateway(s); err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	if s.dns, err = serveDNS(s); err != nil {
		s.gateway.close()
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	return s, nil
}

// Config returns the configuration with its defaults filled in.
func (s *Switch) Config() Config { return s.cfg }

// Close removes every endpoint and ends the network. It is idempotent and
// returns when all goroutines, sockets and ports are gone.
func (s *Switch) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		all := s.endpoints
		s.endpoints = map[string]*endpoint{}
		s.publishTableLocked()
		for conn := range s.holders {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.holding.Wait()
		for _, ep := range all {
			s.release(ep)
		}
		s.dns.close()
		s.gateway.close()
	})
	return nil
}

// publishTableLocked makes the endpoints known to the data path.
func (s *Switch) publishTableLocked() {
	t := &table{byMAC: map[macAddr]*endpoint{}, byIP: map[netip.Addr]*endpoint{}}
	for _, ep := range s.endpoints {
		t.byMAC[ep.mac] = ep
		t.byIP[ep.ip] = ep
	}
	s.table.Store(t)
}

// complete checks the configuration and fills in what was left out.
func (c Config) complete() (Config, error) {
	bad := func(format string, args ...any) (Config, error) {
		return c, fmt.Errorf("network %s: %s: %w", c.Name, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	if c.Name == "" {
		return c, fmt.Errorf("network without a name: %w", errdefs.ErrInvalidArgument)
	}
	if c.Subnet.IsValid() && !c.Subnet.Addr().Is4() {
		return bad("subnet %s: byre's networks carry IPv4 only, leave out --ipv6 and IPv6 subnets", c.Subnet)
	}
	if !c.Subnet.IsValid() || c.Subnet.Bits() < 8 || c.Subnet.Bits() > 29 {
		return bad("subnet %s: give an IPv4 prefix between /8 and /29", c.Subnet)
	}
	c.Subnet = c.Subnet.Masked()
	if c.Range = c.Range.Masked(); c.Range.IsValid() && (!c.Subnet.Overlaps(c.Range) || c.Range.Bits() < c.Subnet.Bits()) {
		return bad("range %s is not a part of the subnet %s", c.Range, c.Subnet)
	}
	if !c.Gateway.IsValid() {
		c.Gateway = c.FirstAddress()
	}
	if !usable(c.Subnet, c.Gateway) {
		return bad("gateway %s is not a host address of %s", c.Gateway, c.Subnet)
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.MTU < minMTU || c.MTU > maxMTU {
		return bad("MTU %d: give one between %d and %d", c.MTU, minMTU, maxMTU)
	}
	if c.Dir != "" {
		longest := filepath.Join(c.Dir, endpointDir, socketName(""))
		if len(longest) > maxSocketPath {
			return bad("socket %s is longer than %d bytes: use a shorter directory (BYRE_HOME)", longest, maxSocketPath)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Check says whether a network can be as the configuration describes it.
func (c Config) Check() error {
	_, err := c.complete()
	return err
}

// pool is what addresses are given from.
func (c Config) pool() netip.Prefix {
	if c.Range.IsValid() {
		return c.Range
	}
	return c.Subnet
}

// FirstAddress is the first host address of those that are given, the gateway's
// where none is named.
func (c Config) FirstAddress() netip.Addr {
	if first := c.pool().Addr(); usable(c.Subnet, first) {
		return first
	}
	return c.pool().Addr().Next()
}

// usable says whether ip is an address that a host of the subnet may have.
func usable(subnet netip.Prefix, ip netip.Addr) bool {
	return subnet.Contains(ip) && ip != subnet.Addr() && ip != broadcast(subnet)
}

// broadcast returns the subnet's last address.
func broadcast(subnet netip.Prefix) netip.Addr {
	b := subnet.Addr().As4()
	for i := subnet.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// privateDir makes a directory that only its owner can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(filepath.Dir(dir), 0o700)
}

// listenUnix listens on a socket path, in place of what a process that was
// killed left there. To close the listener leaves the path, which may be
// another process's by then.
func listenUnix(network, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// ListenUnix takes no context and does not block.
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := ownersAlone(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
