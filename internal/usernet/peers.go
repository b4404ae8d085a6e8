// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

// peerTimeout bounds the question to another network; it is asked over a socket
// of this host.
const peerTimeout = time.Second

// resolution is the answer of a network about a name.
type resolution struct {
	// Known says that the name is the network's.
	Known bool
	// IPs are its addresses.
	IPs []netip.Addr
	// Host is the name of what has the address, where the name is an
	// address's in in-addr.arpa and something has it.
	Host string `json:",omitempty"`
}

// resolve answers for this network about a name, or about the name of an
// address.
func (s *Switch) resolve(name string) resolution {
	if ip, ok := reverse(name); ok {
		return resolution{Known: s.cfg.Subnet.Contains(ip), Host: s.nameOf(ip)}
	}
	ips, known := s.lookup(name)
	return resolution{Known: known, IPs: ips}
}

// SetPeers replaces the directories of the other networks that an endpoint's
// container is on; see Endpoint.Peers.
func (s *Switch) SetPeers(id string, dirs []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep, ok := s.endpoints[id]
	if !ok {
		return fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, id, errdefs.ErrNotFound)
	}
	ep.spec.Peers = slices.Clone(dirs)
	return nil
}

// SetPeers is Switch.SetPeers in the network's process.
func (c *Client) SetPeers(ctx context.Context, id string, dirs []string) error {
	return c.call(ctx, http.MethodPut, endpointPath(id)+"/peers", dirs, nil)
}

// askPeers looks a name up in the other networks of an endpoint's container.
func (s *Switch) askPeers(ctx context.Context, ep *endpoint, name string) (resolution, bool) {
	s.mu.Lock()
	dirs := ep.spec.Peers
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	for _, dir := range dirs {
		c := newClient(dir)
		var r resolution
		err := c.call(ctx, http.MethodPost, "/v1/resolve", name, &r)
		c.Close()
		if err != nil {
			s.log.Debug("peer network does not answer", "peer", dir, "err", err)
			continue
		}
		if r.Known {
			r.IPs = slices.DeleteFunc(r.IPs, func(ip netip.Addr) bool { return !ip.Is4() })
			return r, true
		}
	}
	return resolution{}, false
}

// PublishPorts publishes ports of an endpoint that publishes none, all or
// nothing, and returns them as they came out. It fails as AddEndpoint does.
func (s *Switch) PublishPorts(id string, ports []PortMapping) ([]PortMapping, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep, ok := s.endpoints[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, id, errdefs.ErrNotFound)
	case len(ep.spec.Ports) > 0:
		return nil, fmt.Errorf("network %s: endpoint %s publishes ports already: %w", s.cfg.Name, id, errdefs.ErrAlreadyExists)
	case s.cfg.Internal && len(ports) > 0:
		return nil, fmt.Errorf("the network is internal, it publishes no ports: %w", errdefs.ErrInvalidArgument)
	}
	ep.spec.Ports, ep.ports = ports, newTracker(2*len(ports))
	if err := s.publish(ep); err != nil {
		ep.ports.stop()
		<-ep.ports.done()
		ep.spec.Ports, ep.ports = nil, newTracker(0)
		return nil, fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, id, err)
	}
	return slices.Clone(ep.spec.Ports), nil
}

// PublishPorts is Switch.PublishPorts in the network's process.
func (c *Client) PublishPorts(ctx context.Context, id string, ports []PortMapping) ([]PortMapping, error) {
	var got []PortMapping
	return got, c.call(ctx, http.MethodPost, endpointPath(id)+"/ports", ports, &got)
}
