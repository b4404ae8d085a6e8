// SPDX-License-Identifier: Apache-2.0

// Package network keeps Docker networks: each a switch process of usernet that
// outlives the daemon, in a directory of its own.
//
// The networks bridge, host and none are always there; users make others, of the
// driver bridge, each described by a file in its directory. A network's process
// starts when the first container needs it and ends by itself when none has for
// a while.
//
// Lock order: entry.use, then Manager.mu or entry.mu. entry.use is held across
// calls to the network's process, none of the others is.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/usernet"
)

// Names of the networks.
const (
	Bridge = "bridge"
	None   = "none"
	// Host is of those whose machine takes the host's place: they are on the
	// bridge, and nothing is between them and the host's ports.
	Host = "host"
)

// carrier is the network whose process serves a network.
func carrier(name string) string {
	if name == Host {
		return Bridge
	}
	return name
}

const (
	// idleExit is how long a switch without containers stays.
	idleExit = 10 * time.Minute
	// orphanExit is how long it stays when there is no daemon either.
	orphanExit = time.Minute
)

// Config is what a Manager needs.
type Config struct {
	// Dir holds a directory for each network.
	Dir string
	// Command is the argv that runs a network's process; the network's
	// directory is appended.
	Command []string
	// Log receives state changes; nil discards them.
	Log *slog.Logger
}

// Manager runs networks. It is safe for concurrent use.
type Manager struct {
	cfg Config

	// mu guards entries.
	mu      sync.Mutex
	entries map[string]*entry
}

// entry is a network at work.
type entry struct {
	// Network never changes.
	Network

	// use is held for reading by who works with the network's process and for
	// writing by who removes the network.
	use sync.RWMutex
	// removed is guarded by use.
	removed bool

	// mu guards client, which is nil until the process is known to run.
	mu     sync.Mutex
	client *usernet.Client
}

// Open returns the manager of the networks in a directory. What a kill during
// the removal or creation of a network left is cleared away.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{cfg: cfg, entries: map[string]*entry{}}
	for _, n := range predefined() {
		m.entries[n.Name] = &entry{Network: n}
	}
	custom, err := m.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("open networks: %w", err)
	}
	for _, n := range custom {
		m.entries[n.Name] = &entry{Network: n}
	}
	return m, nil
}

// Network describes a network. None of it changes while the network exists.
type Network struct {
	// Name and ID are what it is found by.
	Name, ID string
	// Created is when it was made; zero for those that are always there.
	Created time.Time
	// Driver is Docker's name for its kind: bridge, null.
	Driver string
	// Custom networks were made by a user.
	Custom bool
	// Subnet and Gateway are zero for none. Range is the part of the subnet that
	// addresses are given from, zero for all of it.
	Subnet, Range netip.Prefix
	Gateway       netip.Addr
	// SubnetGiven says that the user chose the subnet: containers may choose
	// addresses then.
	SubnetGiven bool
	// MTU is that of its containers' cards.
	MTU int
	// Internal networks reach nothing outside.
	Internal bool
	// Attachable is kept for inspect: containers attach to every network.
	Attachable bool
	// Options and Labels are the user's.
	Options, Labels map[string]string
}

// predefined are the networks that are always there.
func predefined() []Network {
	subnet := netip.MustParsePrefix("172.17.0.0/16")
	return []Network{
		{Name: Bridge, ID: id(Bridge), Driver: "bridge", Subnet: subnet, Gateway: subnet.Addr().Next(), MTU: usernet.DefaultMTU},
		{Name: Host, ID: id(Host), Driver: "host"},
		{Name: None, ID: id(None), Driver: "null"},
	}
}

// Networks returns all networks by name.
func (m *Manager) Networks() []Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Network
	for _, e := range m.entries {
		list = append(list, e.Network)
	}
	slices.SortFunc(list, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// id makes the ID of a network that is always there.
func id(name string) string {
	sum := sha256.Sum256([]byte("byre network " + name))
	return hex.EncodeToString(sum[:])
}

// Get finds a network by name, ID or the start of its ID.
func (m *Manager) Get(ref string) (Network, error) {
	e, err := m.find(ref)
	if err != nil {
		return Network{}, err
	}
	return e.Network, nil
}

func (m *Manager) find(ref string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.ID == ref {
			return e, nil
		}
	}
	if e, ok := m.entries[ref]; ok {
		return e, nil
	}
	var found *entry
	for _, e := range m.entries {
		if ref == "" || !strings.HasPrefix(e.ID, ref) {
			continue
		}
		if found != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network %s is ambiguous: several IDs start with it", ref))
		}
		found = e
	}
	if found == nil {
		return nil, notFound(ref)
	}
	return found, nil
}

func notFound(ref string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
}

// Connect adds an endpoint to a network, whose process is started if need be.
// An endpoint of that ID that is left from before is replaced.
func (m *Manager) Connect(ctx context.Context, name string, ep usernet.Endpoint) (usernet.Endpoint, error) {
	got, err := m.add(ctx, name, ep, false)
	if errdefs.IsUnavailable(err) {
		got, err = m.add(ctx, name, ep, true)
	}
	return got, err
}

func (m *Manager) add(ctx context.Context, name string, ep usernet.Endpoint, fresh bool) (usernet.Endpoint, error) {
	e, err := m.acquire(name)
	if err != nil {
		return usernet.Endpoint{}, err
	}
	defer e.use.RUnlock()
	c, err := m.start(ctx, e, fresh)
	if err != nil {
		return usernet.Endpoint{}, err
	}
	got, err := c.AddEndpoint(ctx, ep)
	if !errdefs.IsAlreadyExists(err) {
		return got, err
	}
	// The endpoint of an earlier run, if it is not another's address.
	if removeErr := c.RemoveEndpoint(ctx, ep.ID); removeErr != nil {
		return got, err
	}
	return c.AddEndpoint(ctx, ep)
}

// acquire finds a network and keeps it from being removed until the caller
// gives use.RUnlock.
func (m *Manager) acquire(name string) (*entry, error) {
	e, err := m.find(carrier(name))
	if err != nil {
		return nil, err
	}
	e.use.RLock()
	if e.removed {
		e.use.RUnlock()
		return nil, notFound(name)
	}
	return e, nil
}

// start returns the client of a network; fresh makes sure that it runs.
func (m *Manager) start(ctx context.Context, e *entry, fresh bool) (*usernet.Client, error) {
	if known := e.known(); known != nil && !fresh {
		return known, nil
	}
	c, err := usernet.Ensure(ctx, m.cfg.Command[0], m.cfg.Command[1:], m.switchConfig(e.Network))
	if err != nil {
		return nil, err
	}
	if err := c.Hold(ctx); err != nil {
		c.Close()
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		e.client.Close()
	}
	e.client = c
	return c, nil
}

func (e *entry) known() *usernet.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.client
}

func (m *Manager) switchConfig(n Network) usernet.Config {
	return usernet.Config{
		Name: n.Name, Subnet: n.Subnet, Range: n.Range, Gateway: n.Gateway, MTU: n.MTU, Internal: n.Internal,
		Dir: m.dir(n), IdleExit: idleExit, OrphanExit: orphanExit, Log: m.cfg.Log,
	}
}

// dir is a network's directory; its name is short because sockets are in it.
func (m *Manager) dir(n Network) string {
	if n.Custom {
		return filepath.Join(m.cfg.Dir, n.ID[:shortID])
	}
	return filepath.Join(m.cfg.Dir, n.Name)
}

// Disconnect removes an endpoint. One that is not there is no error.
func (m *Manager) Disconnect(ctx context.Context, name, endpoint string) error {
	return m.ask(ctx, name, func(c *usernet.Client) error { return c.RemoveEndpoint(ctx, endpoint) })
}

// SetNames replaces the names of an endpoint. One that is not there is no
// error.
func (m *Manager) SetNames(ctx context.Context, name, endpoint string, names []string) error {
	return m.ask(ctx, name, func(c *usernet.Client) error { return c.SetNames(ctx, endpoint, names) })
}

// SetPeers tells a network which other networks, by their directories, the
// container of an endpoint is on. An endpoint that is not there is no error.
func (m *Manager) SetPeers(ctx context.Context, name, endpoint string, dirs []string) error {
	return m.ask(ctx, name, func(c *usernet.Client) error { return c.SetPeers(ctx, endpoint, dirs) })
}

// PublishPorts publishes the ports of an endpoint that publishes none, and
// returns them as they came out.
func (m *Manager) PublishPorts(ctx context.Context, name, endpoint string, ports []usernet.PortMapping) (got []usernet.PortMapping, err error) {
	err = m.ask(ctx, name, func(c *usernet.Client) error {
		got, err = c.PublishPorts(ctx, endpoint, ports)
		return err
	})
	return got, err
}

// Dir is the directory of a network's process.
func (m *Manager) Dir(name string) (string, error) {
	e, err := m.find(carrier(name))
	if err != nil {
		return "", err
	}
	return m.dir(e.Network), nil
}

// ask calls the process of a network, if there is one.
func (m *Manager) ask(ctx context.Context, name string, call func(*usernet.Client) error) error {
	e, err := m.acquire(name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.use.RUnlock()
	c, err := m.running(ctx, e)
	if c == nil || err != nil {
		return err
	}
	if err = call(c); errdefs.IsNotFound(err) || errdefs.IsUnavailable(err) {
		return nil
	}
	return err
}

// running returns the client of a network whose process runs, nil if none does.
func (m *Manager) running(ctx context.Context, e *entry) (*usernet.Client, error) {
	if known := e.known(); known != nil {
		return known, nil
	}
	c, err := usernet.Dial(ctx, m.dir(e.Network))
	if err == nil {
		if err = c.Hold(ctx); err != nil {
			c.Close()
		}
	}
	if errdefs.IsUnavailable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		c.Close()
		return e.client, nil
	}
	e.client = c
	return c, nil
}

// Endpoints returns the endpoints of a network; none when it does not run.
func (m *Manager) Endpoints(ctx context.Context, name string) (all []usernet.Endpoint, err error) {
	err = m.ask(ctx, name, func(c *usernet.Client) error {
		info, err := c.Inspect(ctx)
		all = info.Endpoints
		return err
	})
	return all, err
}

// Reconcile removes the endpoints that are not to be kept.
func (m *Manager) Reconcile(ctx context.Context, keep func(network, endpoint string) bool) error {
	for _, n := range m.Networks() {
		if n.Name == None || n.Name == Host {
			continue
		}
		endpoints, err := m.Endpoints(ctx, n.Name)
		if err != nil {
			return err
		}
		for _, ep := range endpoints {
			if keep(n.Name, ep.ID) {
				continue
			}
			if err := m.Disconnect(ctx, n.Name, ep.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close ends the connections; the networks go on running.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if c := e.known(); c != nil {
			c.Close()
		}
	}
	return nil
}
