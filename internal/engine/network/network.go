// SPDX-License-Identifier: Apache-2.0

// Package network keeps Docker networks: each a switch process of usernet that
// outlives the daemon, in a directory of its own.
//
// There are two networks, bridge and none. A network's process starts when the
// first container needs it and ends by itself when none has for a while.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/usernet"
)

// Names of the networks.
const (
	Bridge = "bridge"
	None   = "none"
)

// idleExit is how long a switch without containers stays.
const idleExit = 10 * time.Minute

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

	// mu guards clients.
	mu      sync.Mutex
	clients map[string]*usernet.Client
}

// New returns the manager of the networks in a directory.
func New(cfg Config) *Manager {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{cfg: cfg, clients: map[string]*usernet.Client{}}
}

// Network describes a network.
type Network struct {
	// Name and ID are what it is found by.
	Name, ID string
	// Driver is Docker's name for its kind: bridge, null.
	Driver string
	// Subnet and Gateway are zero for none.
	Subnet  netip.Prefix
	Gateway netip.Addr
	// MTU is that of its containers' cards.
	MTU int
}

// Networks returns all networks.
func (m *Manager) Networks() []Network {
	subnet := netip.MustParsePrefix("172.17.0.0/16")
	return []Network{
		{Name: Bridge, ID: id(Bridge), Driver: "bridge", Subnet: subnet, Gateway: subnet.Addr().Next(), MTU: usernet.DefaultMTU},
		{Name: None, ID: id(None), Driver: "null"},
	}
}

// id makes the network's ID, which never changes.
func id(name string) string {
	sum := sha256.Sum256([]byte("byre network " + name))
	return hex.EncodeToString(sum[:])
}

// minShortID is how short the start of an ID may be.
const minShortID = 4

// Get finds a network by name, ID or the start of its ID.
func (m *Manager) Get(ref string) (Network, error) {
	for _, n := range m.Networks() {
		if n.Name == ref || n.ID == ref || len(ref) >= minShortID && len(ref) < len(n.ID) && n.ID[:len(ref)] == ref {
			return n, nil
		}
	}
	return Network{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
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
	c, err := m.client(ctx, name, fresh)
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

// client returns the client of a network; fresh makes sure that it runs.
func (m *Manager) client(ctx context.Context, name string, fresh bool) (*usernet.Client, error) {
	m.mu.Lock()
	known := m.clients[name]
	m.mu.Unlock()
	if known != nil && !fresh {
		return known, nil
	}
	n, err := m.Get(name)
	if err != nil {
		return nil, err
	}
	c, err := usernet.Ensure(ctx, m.cfg.Command[0], m.cfg.Command[1:], usernet.Config{
		Name: n.Name, Subnet: n.Subnet, Gateway: n.Gateway, MTU: n.MTU,
		Dir: m.dir(name), IdleExit: idleExit, Log: m.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.clients[name]; old != nil {
		old.Close()
	}
	m.clients[name] = c
	return c, nil
}

func (m *Manager) dir(name string) string { return filepath.Join(m.cfg.Dir, name) }

// Disconnect removes an endpoint. One that is not there is no error.
func (m *Manager) Disconnect(ctx context.Context, name, endpoint string) error {
	c, err := m.running(ctx, name)
	if c == nil || err != nil {
		return err
	}
	err = c.RemoveEndpoint(ctx, endpoint)
	if errdefs.IsNotFound(err) || errdefs.IsUnavailable(err) {
		return nil
	}
	return err
}

// running returns the client of a network whose process runs, nil if none does.
func (m *Manager) running(ctx context.Context, name string) (*usernet.Client, error) {
	m.mu.Lock()
	known := m.clients[name]
	m.mu.Unlock()
	if known != nil {
		return known, nil
	}
	c, err := usernet.Dial(ctx, m.dir(name))
	if errdefs.IsUnavailable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clients[name] != nil {
		c.Close()
		return m.clients[name], nil
	}
	m.clients[name] = c
	return c, nil
}

// Endpoints returns the endpoints of a network; none when it does not run.
func (m *Manager) Endpoints(ctx context.Context, name string) ([]usernet.Endpoint, error) {
	c, err := m.running(ctx, name)
	if c == nil || err != nil {
		return nil, err
	}
	info, err := c.Inspect(ctx)
	if errdefs.IsUnavailable(err) {
		return nil, nil
	}
	return info.Endpoints, err
}

// Reconcile removes the endpoints of containers that do not run.
func (m *Manager) Reconcile(ctx context.Context, running map[string]bool) error {
	for _, n := range m.Networks() {
		if n.Name == None {
			continue
		}
		endpoints, err := m.Endpoints(ctx, n.Name)
		if err != nil {
			return err
		}
		for _, ep := range endpoints {
			if running[ep.ID] {
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
	for _, c := range m.clients {
		c.Close()
	}
	clear(m.clients)
	return nil
}
