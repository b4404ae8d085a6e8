// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/engine/spec"
)

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return invalid("Neither old nor new names may be empty")
	}
	if err := checkName(name); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	old := c.snapshot().Name
	if old == name {
		return invalid("Renaming a container with the same name as its current name")
	}
	if err := e.containers.reserve(name, c.id); err != nil {
		return err
	}
	if err := c.update(func(r *Record) { r.Name = name }); err != nil {
		e.containers.release(name, c.id)
		return err
	}
	e.containers.release(old, c.id)
	r := c.snapshot()
	for on := range r.Connections {
		if err := e.Networks.SetNames(ctx, on, r.ID, dnsNames(r, on)); err != nil {
			c.log.Error("container has its old name on its network", "err", err)
		}
	}
	e.publish(c, events.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}

// Update changes the limits and the restart policy of a container.
func (e *Engine) Update(ctx context.Context, ref string, req container.UpdateConfig) (container.UpdateResponse, error) {
	resp := container.UpdateResponse{Warnings: []string{}}
	c, err := e.containers.get(ref)
	if err != nil {
		return resp, err
	}
	if err := container.ValidateRestartPolicy(req.RestartPolicy); err != nil {
		return resp, invalid("%v", err)
	}
	if err := c.lock(ctx); err != nil {
		return resp, err
	}
	defer c.unlock()
	r := c.snapshot()
	host := *r.Host
	mergeResources(&host.Resources, req.Resources)
	if err := checkResources(&host.Resources); err != nil {
		return resp, err
	}
	if err := mergeUlimits(&host.Resources, req.Ulimits); err != nil {
		return resp, err
	}
	if req.RestartPolicy.Name != "" {
		if host.AutoRemove && !req.RestartPolicy.IsNone() {
			return resp, conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		host.RestartPolicy = req.RestartPolicy
	}
	if r.State.Running && len(req.Ulimits) > 0 {
		resp.Warnings = append(resp.Warnings, "Ulimits are those of new processes: they change when the container is started again")
	}
	if r.State.Running {
		limits := spec.Resources(&host.Resources)
		if p := req.PidsLimit; p != nil && *p <= 0 {
			// What is left out of an update stays; this is to go.
			none := int64(-1)
			limits.Pids = &specs.LinuxPids{Limit: &none}
		}
		if err := e.tasks.Update(context.WithoutCancel(ctx), c.id, limits); err != nil {
			return resp, err
		}
	}
	err = c.update(func(r *Record) { r.Host = &host })
	e.publish(c, events.ActionUpdate, nil)
	return resp, err
}

// mergeResources takes the limits that an update names.
func mergeResources(have *container.Resources, want container.Resources) {
	for _, f := range []struct{ dst, src *int64 }{
		{&have.CPUShares, &want.CPUShares}, {&have.Memory, &want.Memory}, {&have.NanoCPUs, &want.NanoCPUs},
		{&have.CPUPeriod, &want.CPUPeriod}, {&have.CPUQuota, &want.CPUQuota},
		{&have.MemoryReservation, &want.MemoryReservation}, {&have.MemorySwap, &want.MemorySwap},
	} {
		if *f.src != 0 {
			*f.dst = *f.src
		}
	}
	if want.CpusetCpus != "" {
		have.CpusetCpus = want.CpusetCpus
	}
	if want.CpusetMems != "" {
		have.CpusetMems = want.CpusetMems
	}
	if want.PidsLimit != nil {
		limit := max(0, *want.PidsLimit)
		have.PidsLimit = &limit
	}
}

// mergeUlimits takes the ulimits that an update names; the others stay.
func mergeUlimits(have *container.Resources, want []*container.Ulimit) error {
	all := slices.Clone(have.Ulimits)
	for _, u := range want {
		if u == nil {
			continue
		}
		if _, err := u.GetRlimit(); err != nil {
			return invalid("%v", err)
		}
		all = slices.DeleteFunc(all, func(o *container.Ulimit) bool { return o.Name == u.Name })
		all = append(all, u)
	}
	have.Ulimits = all
	return nil
}
