// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/engine/volume"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/watch"
)

// Inspect describes a container; size says whether to measure it.
func (e *Engine) Inspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, err
	}
	r := c.shown()
	args := slices.Concat(r.Config.Entrypoint, r.Config.Cmd)
	resp := &container.InspectResponse{
		ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), Path: args[0], Args: args[1:],
		State: inspectState(r.State), Image: r.Image, LogPath: c.logPath(), Name: "/" + r.Name,
		RestartCount: r.Restarts, Driver: snapshotter, Platform: "linux", ExecIDs: e.execs.of(c.id),
		HostConfig: r.Host, Config: r.Config, Mounts: mountPoints(r, e.shareModes(ctx, c)),
		NetworkSettings: e.networkSettings(r), ImageManifestDescriptor: r.Manifest,
		Storage: &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: snapshotter}}},
	}
	if len(r.Links) > 0 {
		host := *r.Host
		host.Links, resp.HostConfig = e.shownLinks(r), &host
	}
	if r.Host.LogConfig.Type != "json-file" {
		resp.LogPath = ""
	}
	if size {
		rw, root := e.sizes(ctx, r)
		resp.SizeRw, resp.SizeRootFs = &rw, &root
	}
	return resp, nil
}

func inspectState(s State) *container.State {
	return &container.State{
		Status: s.Status(), Running: s.Running, Paused: s.Paused, Restarting: s.Restarting, OOMKilled: s.OOMKilled,
		Dead: s.Dead, Pid: s.PID, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt.Format(time.RFC3339Nano), FinishedAt: s.Finished.Format(time.RFC3339Nano), Health: s.Health,
	}
}

// shimWait bounds how long a description waits for a shim.
const shimWait = 2 * time.Second

// shareModes returns how the guest caches the shares of a container that runs,
// by where they are mounted; nil if it does not run.
func (e *Engine) shareModes(ctx context.Context, c *Container) map[string]string {
	_, err := c.running()
	r := c.snapshot()
	if err != nil || !slices.ContainsFunc(r.Mounts, func(m Mount) bool { return m.Type == mount.TypeBind && !m.Socket }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shimWait)
	defer cancel()
	var modes map[string]string
	err = e.callShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		resp, err := shim.Shares(ctx, &shimapi.SharesRequest{})
		modes = modesOf(r.ID, resp.GetShares())
		return err
	})
	if err != nil {
		e.log.Debug("cache modes of shares not known", "container", short(r.ID), "err", err)
	}
	return modes
}

// modesOf picks a container's shares out of those of its machine.
func modesOf(id string, shares []*shimapi.Share) map[string]string {
	modes := map[string]string{}
	for _, sh := range shares {
		if sh.GetContainerId() == id {
			modes[sh.GetDestination()] = sh.GetCache()
		}
	}
	return modes
}

// uncached says whether the guest caches nothing of a bind mount: as it was
// mounted, if modes tell, else as it would be.
func uncached(m Mount, modes map[string]string) bool {
	if m.Type != mount.TypeBind || m.Socket {
		return false
	}
	if mode, ok := modes[m.Destination]; ok {
		return mode == "none"
	}
	return m.Consistent || watch.Supported(m.Source) != nil
}

// mountPoints describes mounts; modes are of shareModes.
func mountPoints(r Record, modes map[string]string) []container.MountPoint {
	points := []container.MountPoint{}
	for _, m := range r.Mounts {
		if m.Plain {
			continue // --tmpfs is shown in HostConfig alone
		}
		p := container.MountPoint{
			Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, Mode: m.Mode, RW: !m.ReadOnly,
		}
		if uncached(m, modes) {
			p.Mode = strings.TrimPrefix(p.Mode+",cache=none", ",")
		}
		switch m.Type {
		case mount.TypeVolume:
			p.Driver = "local"
			if m.Disk {
				p.Source = volume.MountpointOf(m.Source)
			}
		case mount.TypeImage:
			p.RW = false
		case mount.TypeBind:
			p.Propagation = mount.PropagationRPrivate
		}
		points = append(points, p)
	}
	return points
}

// networkSettings describes the connections of a container; one that does not
// run has no addresses.
func (e *Engine) networkSettings(r Record) *container.NetworkSettings {
	s := &container.NetworkSettings{Ports: r.ports(), Networks: map[string]*network.EndpointSettings{}}
	for name := range r.Networks {
		s.Networks[name] = e.endpointSettings(r, name)
	}
	if r.State.Running {
		s.SandboxID = r.ID
	}
	return s
}

// endpointSettings describes the connection to one network.
func (e *Engine) endpointSettings(r Record, name string) *network.EndpointSettings {
	ep := &network.EndpointSettings{}
	if asked := r.endpoint(name); asked != nil {
		ep = asked.Copy()
	}
	if n, err := e.Networks.Get(name); err == nil {
		ep.NetworkID = n.ID
		if n.Custom {
			ep.DNSNames = dnsNames(r, name)
		}
	}
	a := r.Connections[name]
	if a == nil {
		return ep
	}
	if name == enginenet.Host {
		// The addresses are the host's, as far as anybody is to know.
		ep.EndpointID = endpointID(r, name)
		return ep
	}
	ep.EndpointID, ep.Gateway, ep.IPAddress, ep.IPPrefixLen = endpointID(r, name), a.Gateway, a.IP, a.Bits
	if mac, err := parseMAC(a.MAC); err == nil {
		ep.MacAddress = mac
	}
	return ep
}

// endpointID names a container's endpoint on a network in Docker's form.
func endpointID(r Record, name string) string {
	sum := sha256.Sum256([]byte(r.ID + "/" + name))
	return hex.EncodeToString(sum[:])
}

func parseMAC(s string) (network.HardwareAddr, error) {
	var mac network.HardwareAddr
	err := mac.UnmarshalText([]byte(s))
	return mac, err
}

// sizes returns what a container takes on disk: its own layer, and all of it.
func (e *Engine) sizes(ctx context.Context, r Record) (rw, root int64) {
	rw, err := e.tasks.Usage(ctx, r.ID)
	if err != nil {
		e.log.Debug("size of container not known", "container", short(r.ID), "err", err)
	}
	if size, err := e.Images.Size(ctx, r.Image); err == nil {
		root = size
	}
	return rw, root + rw
}

// portSummaries are the ports of a container in a list.
func portSummaries(r Record) []container.PortSummary {
	ports := []container.PortSummary{}
	for p, bindings := range r.ports() {
		if len(bindings) == 0 {
			ports = append(ports, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
		for _, b := range bindings {
			ports = append(ports, container.PortSummary{
				IP: b.HostIP, PrivatePort: p.Num(), PublicPort: atoi(b.HostPort), Type: string(p.Proto()),
			})
		}
	}
	slices.SortFunc(ports, func(a, b container.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		return strings.Compare(a.Type, b.Type)
	})
	return ports
}
