// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/engine/spec"
	"byre.dev/byre/internal/engine/task"
	"byre.dev/byre/internal/engine/volume"
	"byre.dev/byre/internal/shimapi"
)

// createTask creates a container's task, its empty volumes filled from the
// image.
func (e *Engine) createTask(ctx context.Context, r Record, net shimapi.Network, io task.Stdio) (err error) {
	fill, fills, err := e.takeVolumes(r)
	defer func() {
		for _, f := range fills {
			err = errors.Join(err, f.End(err == nil))
		}
	}()
	if err != nil {
		return err
	}
	in := e.specInput(r, fill)
	in.Network = net
	if err := e.withImages(ctx, &in, r); err != nil {
		return err
	}
	s, err := spec.Build(in)
	if err != nil {
		return err
	}
	_, err = e.tasks.Create(ctx, r.ID, s, io)
	return err
}

// takeVolumes finds which of a container's volumes are to be filled, in the order
// of their names, so that no two containers wait for each other. Of disks the
// machine that has one finds it out.
func (e *Engine) takeVolumes(r Record) (fill map[string]bool, fills []*volume.Fill, err error) {
	fill = map[string]bool{}
	mounts := slices.Clone(r.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(a.Name, b.Name) })
	begun := map[string]bool{}
	for _, m := range mounts {
		switch {
		case m.Type != mount.TypeVolume:
		case m.Disk:
			fill[m.Destination] = !m.NoCopy
		case begun[m.Name]:
			fill[m.Destination] = m.Subpath != "" && !m.NoCopy
		case m.Subpath != "" || m.NoCopy:
			v, err := e.Volumes.Get(m.Name)
			if err != nil {
				return nil, fills, err
			}
			if err := e.Volumes.Settle(v, e.volumeRuns(m.Name)); err != nil {
				return nil, fills, err
			}
			// The guest sees whether there is something.
			fill[m.Destination] = m.Subpath != "" && !m.NoCopy
		default:
			begun[m.Name] = true
			v, err := e.Volumes.Get(m.Name)
			if err != nil {
				return nil, fills, err
			}
			f, err := e.Volumes.BeginFill(v, e.volumeRuns(m.Name))
			if err != nil {
				return nil, fills, err
			}
			fills = append(fills, f)
			fill[m.Destination] = f.Needed
		}
	}
	return fill, fills, nil
}

// volumeRuns says whether a container that runs mounts a volume.
func (e *Engine) volumeRuns(name string) bool {
	return slices.ContainsFunc(e.volumeUsers(name), func(id string) bool {
		c, err := e.containers.get(id)
		if err != nil {
			return false
		}
		_, err = c.running()
		return err == nil
	})
}

// publishVolumes sends an event for every volume that a container mounts.
func (e *Engine) publishVolumes(action events.Action, r Record) {
	for _, m := range r.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		attributes := map[string]string{"container": r.ID, "driver": "local"}
		if action == events.ActionMount {
			attributes["destination"], attributes["propagation"] = m.Destination, ""
			attributes["read/write"] = strconv.FormatBool(!m.ReadOnly)
		}
		e.Events.Publish(events.VolumeEventType, action, m.Name, attributes)
	}
}

// publishPrune says how much a removal of everything unused set free.
func (e *Engine) publishPrune(kind events.Type, freed uint64) {
	e.Events.Publish(kind, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(freed, 10)})
}
