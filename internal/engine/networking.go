// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
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
		return e.completeJoin(rec, cfg)
	}
	mode := string(rec.Host.NetworkMode)
	if rec.Config.NetworkDisabled {
		mode = enginenet.None
	}
	n, err := e.Networks.Get(mode)
	if err != nil {
		return err
	}
	if cfg != nil {
		if n, err = e.chooseEndpoint(rec, n, cfg.EndpointsConfig); err != nil {
			return err
		}
	}
	rec.Network = n.Name
	return e.checkAttachment(rec, n)
}

// chooseEndpoint takes from a request the settings for the container's network.
// A request that names the default network and settings for one other means
// the other.
func (e *Engine) chooseEndpoint(rec *Record, n enginenet.Network, all map[string]*network.EndpointSettings) (enginenet.Network, error) {
	for name, ep := range all {
		if name == network.NetworkDefault {
			name = enginenet.Bridge
		}
		other, err := e.Networks.Get(name)
		if err != nil {
			return n, err
		}
		if len(all) == 1 && n.Name == enginenet.Bridge {
			n = other
		}
		if other.Name != n.Name {
			return n, severalNetworks("NetworkingConfig.EndpointsConfig", n.Name, other.Name)
		}
		rec.Endpoint = ep
	}
	return n, nil
}

func severalNetworks(what, a, b string) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
		"byre does not support %s for several networks: a container's machine has one network card, and %s and %s were given", what, a, b))
}

// checkAttachment refuses what a container cannot have on its network.
func (e *Engine) checkAttachment(rec *Record, n enginenet.Network) error {
	if err := checkEndpoint(n, rec.Endpoint); err != nil {
		return err
	}
	if n.Internal {
		for _, h := range rec.Host.ExtraHosts {
			if strings.HasSuffix(h, ":host-gateway") {
				return invalid("byre does not support HostConfig.ExtraHosts: %q, the host is not reached from the internal network %s", h, n.Name)
			}
		}
	}
	if _, err := extraHosts(rec.Host.ExtraHosts, netip.Addr{}); err != nil {
		return err
	}
	ports, err := portMappings(rec)
	if err == nil && n.Internal && len(ports) > 0 {
		return invalid("byre does not support HostConfig.PortBindings: the internal network %s publishes no ports", n.Name)
	}
	return err
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

// dnsNames are what the others on the network find a container by.
func dnsNames(r Record) []string {
	names := []string{r.Name}
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if r.Endpoint != nil {
		for _, alias := range r.Endpoint.Aliases {
			add(alias)
		}
	}
	add(short(r.ID))
	if r.Network != enginenet.Bridge {
		add(r.Config.Hostname)
	}
	return names
}

// isolated says that a container has loopback alone.
func isolated(r Record) bool { return r.Network == "" || r.Network == enginenet.None }

// connect adds the container to its network. Without one it returns the
// settings of a machine that has loopback alone.
func (e *Engine) connect(ctx context.Context, r Record) (shimapi.Network, *Attached, error) {
	settings := shimapi.Network{
		Hostname: r.Config.Hostname, Domainname: r.Config.Domainname,
		Search: r.Host.DNSSearch, Options: r.Host.DNSOptions,
	}
	var err error
	if isolated(r) {
		settings.Hosts, err = extraHosts(r.Host.ExtraHosts, netip.Addr{})
		return settings, nil, err
	}
	want := usernet.Endpoint{ID: r.ID, Names: dnsNames(r), DNS: r.Host.DNS, IP: wantedIP(r.Endpoint)}
	if r.Endpoint != nil {
		want.MAC = net.HardwareAddr(r.Endpoint.MacAddress)
	}
	if want.Ports, err = portMappings(&r); err != nil {
		return settings, nil, err
	}
	ep, err := e.Networks.Connect(ctx, r.Network, want)
	if err != nil {
		return settings, nil, connectError(r, err)
	}
	settings.Socket, settings.MAC, settings.MTU = ep.Socket, ep.MAC.String(), uint32(ep.MTU)
	settings.Addresses = []string{netip.PrefixFrom(ep.IP, ep.Subnet.Bits()).String()}
	if ep.Gateway.IsValid() {
		settings.Gateway = ep.Gateway.String()
	}
	settings.Nameservers = []string{ep.Nameserver.String()}
	if settings.Hosts, err = extraHosts(r.Host.ExtraHosts, ep.Gateway); err != nil {
		return settings, nil, err
	}
	settings.Hosts = append(settings.Hosts, shimapi.Host{Address: ep.IP.String(), Names: ownNames(r)})
	return settings, &Attached{
		Network: r.Network, IP: ep.IP, Gateway: ep.Gateway, Bits: ep.Subnet.Bits(),
		MAC: ep.MAC.String(), Ports: published(r, ep.Ports),
	}, nil
}

// ownNames are what a container calls itself in its hosts file.
func ownNames(r Record) []string {
	if r.Config.Domainname != "" {
		return []string{r.Config.Hostname + "." + r.Config.Domainname, r.Config.Hostname}
	}
	return []string{r.Config.Hostname}
}

// connectError puts a port that is taken in dockerd's words.
func connectError(r Record, err error) error {
	if errors.Is(err, usernet.ErrPortInUse) {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): Bind for published port failed: port is already allocated: %w",
			strings.TrimPrefix(r.Name, "/"), r.ID, err)
	}
	return fmt.Errorf("connect to network %s: %w", r.Network, err)
}

func (e *Engine) disconnect(ctx context.Context, r Record) error {
	if isolated(r) {
		return nil
	}
	return e.Networks.Disconnect(ctx, r.Network, r.ID)
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

// reconcileNetworks removes the endpoints of containers that do not run.
func (e *Engine) reconcileNetworks(ctx context.Context) error {
	running := map[string]bool{}
	for _, c := range e.containers.all() {
		r := c.snapshot()
		running[r.ID] = r.State.Running
	}
	err := e.Networks.Reconcile(ctx, running)
	if errdefs.IsUnavailable(err) {
		return nil
	}
	return err
}

// prefix is a container's address with the length of its network's prefix.
func prefix(a *Attached) netip.Prefix { return netip.PrefixFrom(a.IP, a.Bits) }
