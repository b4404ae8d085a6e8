// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/filter"
	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/engine/request"
)

// CreateNetwork makes a network from a request that was checked field by field
// (package request).
func (e *Engine) CreateNetwork(req network.CreateRequest) (enginenet.Network, error) {
	n := enginenet.Network{
		Name: strings.TrimSpace(req.Name), Internal: req.Internal, Attachable: req.Attachable,
		Options: req.Options, Labels: req.Labels,
	}
	if req.IPAM != nil {
		if len(req.IPAM.Config) > 1 {
			return n, invalid("byre does not support IPAM.Config: a network has one subnet, %d were given", len(req.IPAM.Config))
		}
		for _, c := range req.IPAM.Config {
			n.Subnet, n.Range, n.Gateway = c.Subnet, c.IPRange, c.Gateway
			if c.IPRange.IsValid() && !c.Subnet.IsValid() {
				return n, invalid("IP range %s was given without the subnet that it is in", c.IPRange)
			}
			if c.Gateway.IsValid() && !c.Subnet.IsValid() {
				return n, invalid("gateway %s was given without the subnet that it is in", c.Gateway)
			}
		}
	}
	if s, ok := req.Options[request.OptionMTU]; ok {
		mtu, err := strconv.Atoi(s)
		if err != nil {
			return n, invalid("invalid MTU %q", s)
		}
		n.MTU = mtu
	}
	n, err := e.Networks.Create(n)
	if err == nil {
		e.publishNetwork(events.ActionCreate, n.Name, "")
	}
	return n, err
}

// RemoveNetwork removes a network that no container is connected to.
func (e *Engine) RemoveNetwork(ctx context.Context, ref string) error {
	// What a client asked for is done, whether the client waits or not.
	n, err := e.Networks.Remove(context.WithoutCancel(ctx), ref)
	if err == nil {
		e.Events.Publish(events.NetworkEventType, events.ActionDestroy, n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	}
	return err
}

// PruneNetworks removes the networks that users made and no container is
// configured for.
func (e *Engine) PruneNetworks(ctx context.Context, f filter.Args) ([]string, error) {
	if err := f.Check("label", "until"); err != nil {
		return nil, err
	}
	removed := []string{}
	for _, n := range e.Networks.Networks() {
		old, err := before(f["until"], n.Created)
		if err != nil {
			return removed, err
		}
		if !n.Custom || !old || !f.Labels(n.Labels) || e.NetworkInUse(n.Name) {
			continue
		}
		err = e.RemoveNetwork(ctx, n.ID)
		switch {
		case err == nil:
			removed = append(removed, n.Name)
		case !errdefs.IsPermissionDenied(err) && !errdefs.IsNotFound(err):
			return removed, err
		}
	}
	e.Events.Publish(events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return removed, nil
}

// NetworkInUse says whether a container, running or not, is on a network.
func (e *Engine) NetworkInUse(name string) bool {
	for _, c := range e.containers.all() {
		if _, on := c.snapshot().Networks[name]; on {
			return true
		}
	}
	return false
}

// ConnectNetwork puts a container on a further network, running or not.
func (e *Engine) ConnectNetwork(ctx context.Context, ref, containerRef string, ep *network.EndpointSettings) error {
	return e.changeNetwork(ctx, ref, containerRef, func(n enginenet.Network, c *Container, r Record) error {
		if _, on := r.Networks[n.Name]; on {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("endpoint with name %s already exists in network %s", r.Name, n.Name))
		}
		if n.Name == enginenet.Host {
			return invalid("cannot connect container to host network - container must be created in host network mode")
		}
		if r.Host.NetworkMode.IsContainer() || r.Host.NetworkMode.IsHost() {
			return invalid("container sharing network namespace with another container or host cannot be connected to any other network")
		}
		r.Networks = maps.Clone(r.Networks)
		if r.Networks == nil {
			r.Networks = map[string]*network.EndpointSettings{}
		}
		r.Networks[n.Name] = ep
		if err := e.checkNetworks(&r); err != nil {
			return err
		}
		if _, err := c.running(); err != nil {
			return c.update(func(rec *Record) { rec.Networks = r.Networks })
		}
		// What a client asked for is done, whether the client waits or not.
		if err := e.plug(context.WithoutCancel(ctx), c, r, n.Name); err != nil {
			return err
		}
		e.publishNetwork(events.ActionConnect, n.Name, r.ID)
		return nil
	})
}

// DisconnectNetwork takes a container off a network, running or not; with force
// even when its machine does not answer, or the network is there no more.
func (e *Engine) DisconnectNetwork(ctx context.Context, ref, containerRef string, force bool) error {
	err := e.changeNetwork(ctx, ref, containerRef, func(n enginenet.Network, c *Container, r Record) error {
		if n.Name == enginenet.Host {
			return invalid("container cannot be disconnected from host network or connected to host network")
		}
		if _, on := r.Networks[n.Name]; !on {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("container %s is not connected to network %s", r.ID, n.Name))
		}
		r.Networks = maps.Clone(r.Networks)
		delete(r.Networks, n.Name)
		var err error
		if _, stopped := c.running(); stopped != nil || r.Connections[n.Name] == nil {
			err = c.update(func(rec *Record) { rec.Networks = r.Networks })
		} else {
			err = e.unplug(context.WithoutCancel(ctx), c, r, n.Name, force)
		}
		if err == nil {
			e.publishNetwork(events.ActionDisconnect, n.Name, r.ID)
		}
		return err
	})
	if force && errdefs.IsNotFound(err) {
		return e.forgetNetwork(ctx, ref, containerRef, err)
	}
	return err
}

// forgetNetwork takes a container off a network that was removed while it did
// not run; cause is said where it is on none of that name.
func (e *Engine) forgetNetwork(ctx context.Context, name, containerRef string, cause error) error {
	c, err := e.held(ctx, containerRef)
	if err != nil {
		return err
	}
	defer c.unlock()
	r := c.snapshot()
	if _, on := r.Networks[name]; !on {
		return cause
	}
	left := maps.Clone(r.Networks)
	delete(left, name)
	return c.update(func(rec *Record) { rec.Networks = left })
}

// changeNetwork calls change with a network and a container whose op it holds.
func (e *Engine) changeNetwork(ctx context.Context, ref, containerRef string, change func(enginenet.Network, *Container, Record) error) error {
	n, err := e.Networks.Get(ref)
	if err != nil {
		return err
	}
	c, err := e.held(ctx, containerRef)
	if err != nil {
		return err
	}
	defer c.unlock()
	r := c.snapshot()
	if r.State.Removing || r.State.Dead {
		return conflict("container %s is marked for removal and cannot be connected or disconnected", r.ID)
	}
	return change(n, c, r)
}

// publishNetwork sends a network's event; id is the container's that it is
// about, if any.
func (e *Engine) publishNetwork(action events.Action, name, id string) {
	n, err := e.Networks.Get(name)
	if err != nil {
		return
	}
	attributes := map[string]string{"name": n.Name, "type": n.Driver}
	if id != "" {
		attributes["container"] = id
	}
	e.Events.Publish(events.NetworkEventType, action, n.ID, attributes)
}
