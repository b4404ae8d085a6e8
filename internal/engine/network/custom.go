// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/usernet"
)

const (
	// recordFile describes a network that a user made.
	recordFile = "network.json"
	// shortID is how much of its ID names a network's directory.
	shortID = 8
	// namePattern is Docker's rule for names.
	namePattern = `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`
)

// load reads the networks that users made.
func (m *Manager) load(ctx context.Context) ([]Network, error) {
	entries, err := os.ReadDir(m.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Network
	for _, e := range entries {
		if e.Name() == Bridge || !e.IsDir() {
			continue
		}
		dir := filepath.Join(m.cfg.Dir, e.Name())
		n, err := readRecord(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := usernet.Remove(ctx, dir); err != nil {
				m.cfg.Log.Warn("rest of a network not removed", "dir", dir, "err", err)
			}
		case err != nil:
			// One damaged file must not keep the others from being found.
			m.cfg.Log.Error("network not restored", "dir", dir, "err", err)
		default:
			list = append(list, n)
		}
	}
	return list, nil
}

func readRecord(dir string) (Network, error) {
	var n Network
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, err
	}
	if len(n.ID) < shortID || n.ID[:shortID] != filepath.Base(dir) || n.Name == "" {
		return n, fmt.Errorf("%s describes another network", recordFile)
	}
	return n, nil
}

// writeRecord makes a network's directory with its description: a kill at any
// time leaves the whole of it or nothing that counts.
func writeRecord(dir string, n Network) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+recordFile)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, recordFile))
}

// Create makes a network from what is filled in of n: Name, and as the user
// wishes Subnet, Range, Gateway, MTU, Internal, Attachable, Options and Labels. A
// subnet that is left out is the first free one of Docker's pools.
func (m *Manager) Create(n Network) (Network, error) {
	if ok, err := regexp.MatchString(namePattern, n.Name); !ok || err != nil {
		return n, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q is an invalid name for a network: give letters, digits, _, . and -", n.Name))
	}
	n.ID, n.Created, n.Driver, n.Custom = newID(), time.Now().UTC(), "bridge", true
	n.Options, n.Labels = maps.Clone(n.Options), maps.Clone(n.Labels)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.placeLocked(&n); err != nil {
		return n, err
	}
	if err := m.switchConfig(n).Check(); err != nil {
		return n, err
	}
	if err := writeRecord(m.dir(n), n); err != nil {
		return n, fmt.Errorf("create network %s: %w", n.Name, err)
	}
	m.entries[n.Name] = &entry{Network: n}
	return n, nil
}

// placeLocked finds a name's and a subnet's place among the others.
func (m *Manager) placeLocked(n *Network) error {
	var taken []netip.Prefix
	for _, e := range m.entries {
		if e.Name == n.Name {
			if !e.Custom {
				return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network", n.Name))
			}
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", n.Name))
		}
		if e.Subnet.IsValid() {
			taken = append(taken, e.Subnet)
		}
	}
	n.SubnetGiven = n.Subnet.IsValid()
	if !n.SubnetGiven {
		free, err := freeSubnet(append(taken, hostSubnets()...))
		if err != nil {
			return err
		}
		n.Subnet = free
	}
	n.Subnet, n.Range = n.Subnet.Masked(), n.Range.Masked()
	for _, t := range taken {
		if t.Overlaps(n.Subnet) {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
				"invalid pool request: Pool overlaps with other one on this address space: %s with %s", n.Subnet, t))
		}
	}
	if !n.Gateway.IsValid() {
		n.Gateway = usernet.Config{Subnet: n.Subnet, Range: n.Range}.FirstAddress()
	}
	if n.MTU == 0 {
		n.MTU = usernet.DefaultMTU
	}
	return nil
}

// freeSubnet returns the first of Docker's pools that overlaps none of taken.
func freeSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	var pools []netip.Prefix
	for i := 17; i < 32; i++ {
		pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i)}), 16))
	}
	for i := 0; i < 256; i += 16 {
		pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i)}), 20))
	}
next:
	for _, p := range pools {
		for _, t := range taken {
			if t.Overlaps(p) {
				continue next
			}
		}
		return p, nil
	}
	return netip.Prefix{}, errdefs.ErrInvalidArgument.WithMessage("all predefined address pools have been fully subnetted: give --subnet, or remove networks that are not used")
}

// hostSubnets are the networks that the host itself is on: containers should
// reach them, so that no pool may hide them.
func hostSubnets() []netip.Prefix {
	var list []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			list = append(list, p.Masked())
		}
	}
	return list
}

// Remove removes a network that nothing is connected to, with its process.
func (m *Manager) Remove(ctx context.Context, ref string) (Network, error) {
	e, err := m.find(ref)
	if err != nil {
		return Network{}, err
	}
	if !e.Custom {
		return e.Network, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("%s is a pre-defined network and cannot be removed", e.Name))
	}
	e.use.Lock()
	defer e.use.Unlock()
	if e.removed {
		return e.Network, notFound(ref)
	}
	if err := m.checkUnused(ctx, e); err != nil {
		return e.Network, err
	}
	return e.Network, m.discard(ctx, e)
}

// checkUnused refuses a network whose use is held when it has endpoints.
func (m *Manager) checkUnused(ctx context.Context, e *entry) error {
	c, err := m.running(ctx, e)
	if c == nil || err != nil {
		return err
	}
	info, err := c.Inspect(ctx)
	switch {
	case errdefs.IsUnavailable(err):
		return nil
	case err != nil:
		return fmt.Errorf("remove network %s: %w", e.Name, err)
	case len(info.Endpoints) > 0:
		return inUse(e.Network, info.Endpoints[0])
	}
	return nil
}

func inUse(n Network, ep usernet.Endpoint) error {
	name := ""
	if len(ep.Names) > 0 {
		name = ep.Names[0]
	}
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
		"error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, name, ep.ID[:min(12, len(ep.ID))]))
}

// discard removes a network whose use is held. The description goes first: what
// a kill leaves after that is cleared away by Open.
func (m *Manager) discard(ctx context.Context, e *entry) error {
	dir := m.dir(e.Network)
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network %s: %w", e.Name, err)
	}
	e.removed = true
	m.mu.Lock()
	delete(m.entries, e.Name)
	m.mu.Unlock()
	if c := e.known(); c != nil {
		c.Close()
	}
	if err := usernet.Remove(ctx, dir); err != nil {
		return fmt.Errorf("remove network %s: %w", e.Name, err)
	}
	return nil
}

// newID makes an ID: 64 hexadecimal digits, as Docker's.
func newID() string {
	b := make([]byte, 32)
	// Read never fails (crypto/rand).
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
