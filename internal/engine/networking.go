// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/usernet"
)

// completeNetwork says which network a container is on.
func (e *Engine) completeNetwork(rec *Record, cfg *network.NetworkingConfig) error {
	if rec.Host.NetworkMode.IsContainer() {
		if err := e.completeLinks(rec); err != nil {
			return err
		}
		return e.completeJoin(rec, cfg)
	}
	mode := string(rec.Host.NetworkMode)
	if rec.Config.NetworkDisabled {
		mode = enginenet.None
	}
	n, err := e.networkToBe(mode)
	if err != nil {
		return err
	}
	rec.Network, rec.Networks = n.Name, map[string]*network.EndpointSettings{}
	if cfg != nil {
		if err := e.chooseEndpoints(rec, cfg.EndpointsConfig); err != nil {
			return err
		}
	}
	if _, ok := rec.Networks[rec.Network]; !ok {
		rec.Networks[rec.Network] = nil
	}
	if err := e.completeLinks(rec); err != nil {
		return err
	}
	return e.checkNetworks(rec)
}

// networkToBe finds a network; one that is not there may be made before the
// container starts, as with dockerd: until then its name is all that is known.
func (e *Engine) networkToBe(ref string) (enginenet.Network, error) {
	n, err := e.Networks.Get(ref)
	if errdefs.IsNotFound(err) && ref != "" {
		return enginenet.Network{Name: ref}, nil
	}
	return n, err
}

// chooseEndpoints takes from a request the settings for the container's
// networks. A request that names the default network and settings for one other
// means the other.
func (e *Engine) chooseEndpoints(rec *Record, all map[string]*network.EndpointSettings) error {
	for ref, ep := range all {
		if ref == network.NetworkDefault {
			ref = enginenet.Bridge
		}
		n, err := e.networkToBe(ref)
		if err != nil {
			return err
		}
		if _, twice := rec.Networks[n.Name]; twice {
			return invalid("network %s is given twice, by name and by ID", n.Name)
		}
		if len(all) == 1 && rec.Network == enginenet.Bridge {
			rec.Network = n.Name
		}
		rec.Networks[n.Name] = ep
	}
	return nil
}

// checkNetworks refuses what a container cannot have on its networks.
func (e *Engine) checkNetworks(rec *Record) error {
	if len(rec.Networks) > shimapi.MaxLinks {
		return invalid("byre connects a container to %d networks at most, its machine has so many network cards: %d were given", shimapi.MaxLinks, len(rec.Networks))
	}
	if _, none := rec.Networks[enginenet.None]; none && len(rec.Networks) > 1 {
		return invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	if _, host := rec.Networks[enginenet.Host]; host && len(rec.Networks) > 1 {
		return invalid("container cannot be connected to multiple networks with one of the networks in host mode")
	}
	internal := ""
	for name, ep := range rec.Networks {
		n, err := e.Networks.Get(name)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := checkEndpoint(n, ep); err != nil {
			return err
		}
		if n.Internal {
			internal = name
		}
	}
	if _, err := extraHosts(rec.Host.ExtraHosts, netip.Addr{}); err != nil {
		return err
	}
	ports, err := portMappings(rec)
	if err != nil || internal == "" || wayOut(*rec, e.leadsOut) != "" {
		return err
	}
	return checkInternal(rec, internal, ports)
}

// checkInternal refuses what a container cannot have that is on internal
// networks alone.
func checkInternal(rec *Record, name string, ports []usernet.PortMapping) error {
	for _, h := range rec.Host.ExtraHosts {
		if strings.HasSuffix(h, ":host-gateway") {
			return invalid("byre does not support HostConfig.ExtraHosts: %q, the host is not reached from the internal network %s", h, name)
		}
	}
	if len(ports) > 0 {
		return invalid("byre does not support HostConfig.PortBindings: the internal network %s publishes no ports", name)
	}
	return nil
}

// checkEndpoint refuses settings that a network does not have, in dockerd's
// words.
func checkEndpoint(n enginenet.Network, ep *network.EndpointSettings) error {
	if ep == nil {
		return nil
	}
	if len(ep.Aliases) > 0 && !n.Custom {
		return invalid("network-scoped alias is supported only for containers in user defined networks")
	}
	ip := wantedIP(ep)
	switch {
	case !ip.IsValid():
		return nil
	case !n.Custom:
		return invalid("user specified IP address is supported on user defined networks only")
	case !n.SubnetGiven:
		return invalid("user specified IP address is supported only when connecting to networks with user configured subnets")
	case !n.Subnet.Contains(ip):
		return invalid("no configured subnet contains IP address %s", ip)
	}
	return nil
}

// wantedIP is the address that a user chose; zero for none.
func wantedIP(ep *network.EndpointSettings) netip.Addr {
	if ep == nil || ep.IPAMConfig == nil {
		return netip.Addr{}
	}
	return ep.IPAMConfig.IPv4Address
}

// dnsNames are what the others on a network find a container by.
func dnsNames(r Record, name string) []string {
	names := []string{r.Name}
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if ep := r.endpoint(name); ep != nil {
		for _, alias := range ep.Aliases {
			add(alias)
		}
	}
	add(short(r.ID))
	if name != enginenet.Bridge {
		add(r.Config.Hostname)
	}
	return names
}

// ownNames are what a container calls itself in its hosts file.
func ownNames(r Record) []string {
	if r.Config.Domainname != "" {
		return []string{r.Config.Hostname + "." + r.Config.Domainname, r.Config.Hostname}
	}
	return []string{r.Config.Hostname}
}

// connectError puts a port that is taken in dockerd's words.
func connectError(r Record, name string, err error) error {
	if errors.Is(err, usernet.ErrPortInUse) {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): Bind for published port failed: port is already allocated: %w",
			strings.TrimPrefix(r.Name, "/"), r.ID, err)
	}
	return fmt.Errorf("connect to network %s: %w", name, err)
}

// extraHosts reads --add-host: "name:address", where host-gateway is the host.
func extraHosts(entries []string, gateway netip.Addr) ([]shimapi.Host, error) {
	var hosts []shimapi.Host
	for _, entry := range entries {
		name, address, ok := strings.Cut(entry, ":")
		if !ok || name == "" {
			return nil, invalid("bad format for add-host: %q", entry)
		}
		if address == "host-gateway" {
			if gateway.IsValid() {
				hosts = append(hosts, shimapi.Host{Address: gateway.String(), Names: []string{name}})
			}
			continue
		}
		ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if err != nil {
			return nil, invalid("invalid IP address in add-host: %q", address)
		}
		hosts = append(hosts, shimapi.Host{Address: ip.String(), Names: []string{name}})
	}
	return hosts, nil
}

// portMappings are the ports that a container publishes, in the order of the
// container's ports.
func portMappings(r *Record) ([]usernet.PortMapping, error) {
	if isolated(*r) {
		return nil, nil
	}
	if r.Host.NetworkMode.IsHost() {
		return hostModePorts(r)
	}
	wanted := maps.Clone(r.Host.PortBindings)
	if r.Host.PublishAllPorts {
		if wanted == nil {
			wanted = network.PortMap{}
		}
		for p := range r.Config.ExposedPorts {
			if len(wanted[p]) == 0 {
				wanted[p] = []network.PortBinding{{}}
			}
		}
	}
	ports := slices.Collect(maps.Keys(wanted))
	slices.SortFunc(ports, comparePorts)
	var mappings []usernet.PortMapping
	for _, p := range ports {
		if p.Proto() != network.TCP && p.Proto() != network.UDP {
			return nil, invalid("byre does not support HostConfig.PortBindings: protocol of %s, give tcp or udp", p)
		}
		bindings := wanted[p]
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			m := usernet.PortMapping{Proto: string(p.Proto()), HostIP: b.HostIP, GuestPort: p.Num()}
			if err := hostPorts(&m, b.HostPort); err != nil {
				return nil, err
			}
			mappings = append(mappings, m)
		}
	}
	return mappings, nil
}

// hostModePorts are the ports of a container on the network host: each that it
// exposes is the host's port of that number, as where the two are one machine.
// Nothing else is published.
func hostModePorts(r *Record) ([]usernet.PortMapping, error) {
	ports := slices.SortedFunc(maps.Keys(r.Config.ExposedPorts), comparePorts)
	var mappings []usernet.PortMapping
	for _, p := range ports {
		if p.Proto() != network.TCP && p.Proto() != network.UDP {
			return nil, invalid("byre does not support ExposedPorts %s on the network host: give tcp or udp", p)
		}
		mappings = append(mappings, usernet.PortMapping{Proto: string(p.Proto()), GuestPort: p.Num(), HostPort: p.Num()})
	}
	return mappings, nil
}

func comparePorts(a, b network.Port) int {
	if a.Num() != b.Num() {
		return int(a.Num()) - int(b.Num())
	}
	return strings.Compare(string(a.Proto()), string(b.Proto()))
}

// hostPorts reads the host's side: a port, a range, or nothing for any.
func hostPorts(m *usernet.PortMapping, s string) error {
	if s == "" {
		return nil
	}
	first, last, isRange := strings.Cut(s, "-")
	n, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return invalid("invalid port specification: %q", s)
	}
	m.HostPort = uint16(n)
	if !isRange {
		return nil
	}
	end, err := strconv.ParseUint(last, 10, 16)
	if err != nil || end < n {
		return invalid("invalid port specification: %q", s)
	}
	m.HostPortEnd = uint16(end)
	return nil
}

// published describes the ports as they came out: those that are published and
// those that are only exposed.
func published(r Record, ports []usernet.PortMapping) network.PortMap {
	m := network.PortMap{}
	for p := range r.Config.ExposedPorts {
		m[p] = nil
	}
	for _, p := range ports {
		key, _ := network.PortFrom(p.GuestPort, network.IPProtocol(p.Proto))
		ip := p.HostIP
		if !ip.IsValid() {
			ip = netip.IPv4Unspecified()
		}
		m[key] = append(m[key], network.PortBinding{HostIP: ip, HostPort: strconv.Itoa(int(p.HostPort))})
	}
	return m
}

// reconcileNetworks removes the endpoints of containers that do not run, or are
// no longer on the network.
func (e *Engine) reconcileNetworks(ctx context.Context) error {
	connected := map[string]map[string]bool{}
	for _, c := range e.containers.all() {
		r := c.snapshot()
		if !r.State.Running {
			continue
		}
		connected[r.ID] = map[string]bool{}
		for name := range r.Networks {
			connected[r.ID][name] = true
			if name == enginenet.Host {
				connected[r.ID][enginenet.Bridge] = true
			}
		}
	}
	err := e.Networks.Reconcile(ctx, func(name, id string) bool { return connected[id][name] })
	if errdefs.IsUnavailable(err) {
		return nil
	}
	return err
}
