// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/moby/api/types/network"

	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/usernet"
)

// A container that runs has an endpoint on each of its networks, and its machine
// a card for each. One network is the container's way out: its gateway is the
// default route, its switch answers DNS for the others too, and publishes the
// container's ports.

// order returns the names of a container's networks as its cards have them: the
// one that it was created for first.
func (r Record) order() []string {
	names := slices.Sorted(maps.Keys(r.Networks))
	if i := slices.Index(names, r.Network); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, r.Network)
	}
	return names
}

// endpoint is what was asked for on a network; nil for nothing.
func (r Record) endpoint(name string) *network.EndpointSettings { return r.Networks[name] }

// isolated says that a container has loopback alone.
func isolated(r Record) bool {
	_, none := r.Networks[enginenet.None]
	return none || len(r.Networks) == 0
}

// wayOut chooses the network of the default route as dockerd does: the highest
// priority, then the first name, among those that lead out.
func wayOut(r Record, leadsOut func(name string) bool) string {
	best, priority := "", 0
	for _, name := range slices.Sorted(maps.Keys(r.Networks)) {
		p := 0
		if ep := r.endpoint(name); ep != nil {
			p = ep.GwPriority
		}
		if leadsOut(name) && (best == "" || p > priority) {
			best, priority = name, p
		}
	}
	return best
}

// leadsOut says whether a network has a way out.
func (e *Engine) leadsOut(name string) bool {
	if name == enginenet.Host {
		return true
	}
	n, err := e.Networks.Get(name)
	return err == nil && n.Subnet.IsValid() && !n.Internal
}

// connect adds the container to its networks. Without one it returns the
// settings of a machine that has loopback alone. When it fails, the caller
// disconnects.
func (e *Engine) connect(ctx context.Context, r Record) (shimapi.Network, map[string]*Attached, error) {
	if isolated(r) {
		settings, err := machineNetwork(r, nil)
		return settings, nil, err
	}
	all := map[string]*Attached{}
	publisher := wayOut(r, e.leadsOut)
	for _, name := range r.order() {
		a, err := e.attach(ctx, r, name, name == publisher)
		if err != nil {
			return shimapi.Network{}, nil, err
		}
		all[name] = a
	}
	settings, err := machineNetwork(r, all)
	if err != nil {
		return settings, all, err
	}
	linked, err := e.linkedHosts(r, true)
	settings.Hosts = append(settings.Hosts, linked...)
	return settings, all, err
}

// attach adds the container's endpoint to one network.
func (e *Engine) attach(ctx context.Context, r Record, name string, publishes bool) (*Attached, error) {
	asked := r.endpoint(name)
	want := usernet.Endpoint{
		ID: r.ID, Names: dnsNames(r, name), DNS: r.Host.DNS, IP: wantedIP(asked), Peers: e.peers(r, name),
	}
	if asked != nil {
		want.MAC = net.HardwareAddr(asked.MacAddress)
	}
	if publishes {
		var err error
		if want.Ports, err = portMappings(&r); err != nil {
			return nil, err
		}
	}
	ep, err := e.Networks.Connect(ctx, name, want)
	if err != nil {
		return nil, connectError(r, name, err)
	}
	a := &Attached{
		IP: ep.IP, Gateway: ep.Gateway, Nameserver: ep.Nameserver, Bits: ep.Subnet.Bits(),
		MAC: ep.MAC.String(), MTU: ep.MTU, Socket: ep.Socket,
	}
	if publishes {
		a.Ports = published(r, ep.Ports)
	}
	return a, nil
}

// peers are the directories of a container's networks but one.
func (e *Engine) peers(r Record, but string) []string {
	dirs := []string{}
	for _, name := range r.order() {
		if name == but {
			continue
		}
		if dir, err := e.Networks.Dir(name); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// machineNetwork is what the machine of a container with these connections is to
// be told.
func machineNetwork(r Record, all map[string]*Attached) (shimapi.Network, error) {
	settings := shimapi.Network{
		Hostname: r.Config.Hostname, Domainname: r.Config.Domainname,
		Search: r.Host.DNSSearch, Options: r.Host.DNSOptions,
	}
	out := wayOut(r, func(name string) bool { return all[name] != nil && all[name].Gateway.IsValid() })
	var gateway netip.Addr
	if out != "" {
		gateway = all[out].Gateway
		settings.Nameservers = []string{all[out].Nameserver.String()}
	}
	hosts, err := extraHosts(r.Host.ExtraHosts, gateway)
	if err != nil {
		return settings, err
	}
	for _, name := range r.order() {
		a := all[name]
		if a == nil {
			continue
		}
		l := shimapi.Link{
			Socket: a.Socket, MAC: a.MAC, MTU: uint32(a.MTU),
			Addresses: []string{prefix(a).String()},
		}
		if name == out {
			l.Gateway = gateway.String()
		}
		settings.Links = append(settings.Links, l)
		hosts = append(hosts, shimapi.Host{Address: a.IP.String(), Names: ownNames(r)})
		if len(settings.Nameservers) == 0 {
			settings.Nameservers = []string{a.Nameserver.String()}
		}
	}
	settings.Hosts = hosts
	return settings, nil
}

// disconnect removes the container's endpoints, on a network that it left since
// its run ended too.
func (e *Engine) disconnect(ctx context.Context, r Record) error {
	names := map[string]bool{}
	for name := range r.Networks {
		names[name] = name != enginenet.None
	}
	for name := range r.Connections {
		names[name] = true
	}
	var errs []error
	for name, attached := range names {
		if attached {
			errs = append(errs, e.Networks.Disconnect(ctx, name, r.ID))
		}
	}
	return errors.Join(errs...)
}

// setNetwork has the machine of a running container connected as its
// connections say, and the switches told of one another.
func (e *Engine) setNetwork(ctx context.Context, c *Container, r Record, all map[string]*Attached) error {
	settings, err := machineNetwork(r, all)
	if err != nil {
		return err
	}
	linked, err := e.linkedHosts(r, false)
	if err != nil {
		return err
	}
	settings.Hosts = append(settings.Hosts, linked...)
	b, err := json.Marshal(settings)
	if err != nil {
		return fmt.Errorf("encode network: %w", err)
	}
	err = e.callShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		_, err := shim.SetNetwork(ctx, &shimapi.SetNetworkRequest{Network: b})
		return errgrpc.ToNative(err)
	})
	if err != nil {
		return err
	}
	var errs []error
	for name := range all {
		errs = append(errs, e.Networks.SetPeers(ctx, name, r.ID, e.peers(r, name)))
	}
	return errors.Join(errs...)
}

// plug connects a running container to one more network; r has it already.
func (e *Engine) plug(ctx context.Context, c *Container, r Record, name string) error {
	before := r.Connections
	publishes := name == wayOut(r, e.leadsOut) && !publishesPorts(before)
	a, err := e.attach(ctx, r, name, publishes)
	if err != nil {
		return err
	}
	all := maps.Clone(before)
	if all == nil {
		all = map[string]*Attached{}
	}
	all[name] = a
	if err := e.setNetwork(ctx, c, r, all); err != nil {
		return errors.Join(err, e.Networks.Disconnect(ctx, name, r.ID))
	}
	return c.update(func(rec *Record) { rec.Networks, rec.Connections = r.Networks, all })
}

// forceLimit bounds the wait for a machine whose network is taken by force.
const forceLimit = 10 * time.Second

// unplug takes a running container off a network, which r has no more; with
// force even when its machine does not answer in time.
func (e *Engine) unplug(ctx context.Context, c *Container, r Record, name string, force bool) error {
	all := maps.Clone(r.Connections)
	gone := all[name]
	delete(all, name)
	told, cancel := ctx, func() {}
	if force {
		told, cancel = context.WithTimeout(ctx, forceLimit)
	}
	defer cancel()
	if err := e.setNetwork(told, c, r, all); err != nil {
		if !force {
			return err
		}
		c.log.Warn("container taken off a network without its machine", "network", name, "err", err)
	}
	err := e.Networks.Disconnect(ctx, name, r.ID)
	// The ports go on where the container has another way out.
	if next := wayOut(r, e.leadsOut); next != "" && gone.Ports != nil && all[next] != nil {
		moved, moveErr := e.movePorts(ctx, r, next)
		a := *all[next]
		a.Ports, all[next] = moved, &a
		err = errors.Join(err, moveErr)
	}
	return errors.Join(err, c.update(func(rec *Record) { rec.Networks, rec.Connections = r.Networks, all }))
}

// movePorts publishes the container's ports on another of its networks.
func (e *Engine) movePorts(ctx context.Context, r Record, name string) (network.PortMap, error) {
	want, err := portMappings(&r)
	if err != nil || len(want) == 0 {
		return published(r, nil), err
	}
	got, err := e.Networks.PublishPorts(ctx, name, r.ID, want)
	if err != nil {
		return published(r, nil), connectError(r, name, err)
	}
	return published(r, got), nil
}

// publishesPorts says whether one of the connections has the container's ports.
func publishesPorts(all map[string]*Attached) bool {
	for _, a := range all {
		if a.Ports != nil {
			return true
		}
	}
	return false
}

// ports describes the ports of a container that is connected.
func (r Record) ports() network.PortMap {
	for _, a := range r.Connections {
		if a.Ports != nil {
			return a.Ports
		}
	}
	if len(r.Connections) > 0 {
		return published(r, nil)
	}
	return network.PortMap{}
}

// prefix is a container's address with the length of its network's prefix.
func prefix(a *Attached) netip.Prefix { return netip.PrefixFrom(a.IP, a.Bits) }
