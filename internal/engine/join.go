// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// A container that joins another's network (--network container:NAME) runs in
// that one's machine: the network is the machine's. The machine lives as long as
// one of its containers; its network as long as the container that it was made
// for.

// completeJoin checks what a container asks for that is to join another's
// network, whose names are then its own.
func (e *Engine) completeJoin(rec *Record, cfg *network.NetworkingConfig) error {
	target, err := e.containers.get(rec.Host.NetworkMode.ConnectedContainer())
	if err != nil {
		// Not found would have the client pull the image.
		return invalid("cannot join network: %v", err)
	}
	conflict := ""
	switch h := rec.Host; {
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		conflict = "port publishing"
	case len(h.DNS) > 0 || len(h.DNSSearch) > 0 || len(h.DNSOptions) > 0:
		conflict = "dns"
	case len(h.ExtraHosts) > 0:
		conflict = "custom host-to-IP mapping"
	case cfg != nil && len(cfg.EndpointsConfig) > 0:
		conflict = "settings of a network"
	}
	if conflict != "" {
		return invalid("conflicting options: %s and the container type network mode", conflict)
	}
	rec.Host.NetworkMode = container.NetworkMode("container:" + target.id)
	rec.Config.Hostname = target.snapshot().Config.Hostname
	return nil
}

// group names the machine that a container is to run in, "" for one of its own.
// The run is that of the container joined, nil if there is none.
func (e *Engine) group(r Record) (string, *Container, *run, error) {
	if !r.Host.NetworkMode.IsContainer() {
		if e.isJoined(r.ID) {
			return newID(), nil, nil, nil
		}
		return "", nil, nil, nil
	}
	id := r.Host.NetworkMode.ConnectedContainer()
	target, err := e.containers.get(id)
	if err != nil {
		return "", nil, nil, err
	}
	if target.id == r.ID {
		return "", nil, nil, invalid("cannot join own network")
	}
	t := target.snapshot()
	if err := e.checkShared(r, machineOf(t)); err != nil {
		return "", nil, nil, err
	}
	joined, err := target.running()
	switch {
	case t.State.Restarting:
		return "", nil, nil, conflict("Container %s is restarting, wait until the container is running", t.ID)
	case err != nil:
		return "", nil, nil, errdefs.ErrConflict.WithMessage("cannot join network of a non running container: " + t.ID)
	}
	return machineOf(t), target, joined, nil
}

// machineOf names the machine of a container that runs.
func machineOf(r Record) string {
	if r.Group != "" {
		return r.Group
	}
	return r.ID
}

// sharedMode is a mode by which a container shares more of another than its
// network: its processes, its IPC.
type sharedMode struct {
	// what the mode is of, in the words of dockerd's errors.
	what string
	// mode is what HostConfig says.
	mode string
	// with names the other container.
	with string
}

// sharedModes are those of a container.
func sharedModes(h *container.HostConfig) []sharedMode {
	var all []sharedMode
	if m := h.PidMode; m.IsContainer() {
		all = append(all, sharedMode{"PID", string(m), m.Container()})
	}
	if m := h.IpcMode; m.IsContainer() {
		all = append(all, sharedMode{"IPC", string(m), m.Container()})
	}
	return all
}

// completeShared settles whose processes and IPC a container shares. They are in
// that one's machine, so that its network is shared as well: it is the default
// then.
func (e *Engine) completeShared(rec *Record, req *CreateRequest) error {
	if rec.Host.IpcMode.IsContainer() && rec.Host.ShmSize != 0 {
		return invalid("conflicting options: the size of /dev/shm and the IPC mode %s, with which that of the other container is shared", rec.Host.IpcMode)
	}
	for _, m := range sharedModes(rec.Host) {
		target, err := e.containers.get(m.with)
		if err != nil {
			// Not found would have the client pull the image.
			return invalid("cannot join %s namespace: %v", m.what, err)
		}
		t := target.snapshot()
		m.mode = "container:" + t.ID
		if m.what == "PID" {
			rec.Host.PidMode = container.PidMode(m.mode)
		} else {
			rec.Host.IpcMode = container.IpcMode(m.mode)
		}
		if err := e.completeSharedNetwork(rec, req, m, t); err != nil {
			return err
		}
	}
	return nil
}

// completeSharedNetwork settles the network of a container that shares more of t.
func (e *Engine) completeSharedNetwork(rec *Record, req *CreateRequest, m sharedMode, t Record) error {
	network := rec.Host.NetworkMode
	if network == "" || network.IsDefault() {
		if rec.Config.Hostname != "" {
			return invalid("conflicting options: hostname and the %s mode %s, with which the network of that container is shared", m.what, m.mode)
		}
		rec.Host.NetworkMode = container.NetworkMode(m.mode)
		if saysNothing(req.NetworkingConfig) {
			req.NetworkingConfig = nil
		}
		return nil
	}
	if network.IsContainer() {
		joined, err := e.containers.get(network.ConnectedContainer())
		if err != nil {
			return invalid("cannot join network: %v", err)
		}
		if joined.id == t.ID || joined.id == t.Host.NetworkMode.ConnectedContainer() {
			return nil
		}
	}
	return invalid("conflicting options: the network mode %s and the %s mode %s: both are of one machine; use --network container:%s",
		network, m.what, m.mode, strings.TrimPrefix(t.Name, "/"))
}

// saysNothing says whether a request has nothing to say of networks: clients name
// the default one all the same.
func saysNothing(cfg *network.NetworkingConfig) bool {
	if cfg == nil {
		return true
	}
	for name, ep := range cfg.EndpointsConfig {
		if name != network.NetworkDefault || ep != nil && !reflect.DeepEqual(*ep, network.EndpointSettings{}) {
			return false
		}
	}
	return true
}

// checkShared says whether the containers of which r shares more than the network
// run in a machine, and let themselves be shared.
func (e *Engine) checkShared(r Record, machine string) error {
	for _, m := range sharedModes(r.Host) {
		target, err := e.containers.get(m.with)
		if err == nil {
			_, err = target.running()
		}
		if err != nil {
			// dockerd answers with no kind either.
			return fmt.Errorf("failed to join %s namespace: %v", m.what, err)
		}
		t := target.snapshot()
		if m.what == "IPC" && !t.Host.IpcMode.IsShareable() {
			return fmt.Errorf("failed to join IPC namespace: non-shareable IPC of container %s (hint: use IpcMode:shareable for the donor container)", t.ID)
		}
		if machineOf(t) != machine {
			return conflict("failed to join %s namespace: container %s is in another machine than the container whose network is joined", m.what, t.ID)
		}
	}
	return nil
}

// isJoined says whether a container's network is that of others: they may be in
// the machine of an earlier run of it, or that machine, named after the container,
// may be about to end with the last of them.
func (e *Engine) isJoined(id string) bool {
	return slices.ContainsFunc(e.containers.all(), func(c *Container) bool {
		return c.snapshot().Host.NetworkMode.ConnectedContainer() == id
	})
}

// stillJoined says whether a container that was joined is in the same run: if
// not, the machine may be another than meant.
func stillJoined(target *Container, joined *run) error {
	if target == nil {
		return nil
	}
	if now, err := target.running(); err != nil || now != joined {
		return errdefs.ErrConflict.WithMessage("cannot join network of a non running container: " + target.id)
	}
	return nil
}
