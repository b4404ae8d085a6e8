// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/engine/filter"
)

// RemoveOptions say how to remove a container.
type RemoveOptions struct {
	// Force kills it if it runs.
	Force bool
	// Volumes removes the volumes that were made for it.
	Volumes bool
}

// Remove removes a container with everything that is its own.
func (e *Engine) Remove(ctx context.Context, ref string, opts RemoveOptions) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	// What a client asked for is done, whether the client waits or not.
	return e.remove(context.WithoutCancel(ctx), c, opts)
}

func (e *Engine) remove(ctx context.Context, c *Container, opts RemoveOptions) error {
	if opts.Force {
		if err := e.killForRemoval(ctx, c); err != nil {
			return err
		}
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	return e.removeLocked(ctx, c, opts)
}

// killForRemoval ends a container whatever it does. One whose task does not
// answer loses its machine.
func (e *Engine) killForRemoval(ctx context.Context, c *Container) error {
	run, err := c.lastRun(ctx)
	if err != nil {
		return ctx.Err()
	}
	if err := e.signalRun(ctx, c, run, sigKill); err != nil {
		return fmt.Errorf("could not kill container: %w", err)
	}
	if !run.awaitOver(ctx, killPatience) {
		return fmt.Errorf("container %s did not end within %s after SIGKILL", short(c.id), killPatience)
	}
	<-run.cleared
	c.cancelRestart()
	return nil
}

// removeLocked removes a container whose op is held and that does not run.
func (e *Engine) removeLocked(ctx context.Context, c *Container, opts RemoveOptions) error {
	r := c.snapshot()
	switch {
	case c.isGone():
		return errdefs.ErrNotFound.WithMessage("No such container: " + c.id)
	case r.State.Paused:
		return conflict("cannot remove container %q: container is paused and must be unpaused first", "/"+r.Name)
	case r.State.Running:
		state := r.State.Status()
		return conflict("cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+r.Name, state)
	}
	c.note(func(r *Record) { r.State.Removing, r.State.RemovingVolumes = true, opts.Volumes })
	if err := e.discard(ctx, c, r, opts.Volumes); err != nil {
		c.note(func(r *Record) { r.State.Removing, r.State.Dead, r.State.Error = false, true, err.Error() })
		return fmt.Errorf("cannot remove container %q: %w", "/"+r.Name, err)
	}
	e.containers.remove(r.ID)
	e.containers.release(r.Name, r.ID)
	e.publish(c, events.ActionDestroy, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.wakeLocked()
	return nil
}

// discard deletes what a container has on disk, its record last of all and only
// when the rest is gone: what a kill leaves half removed is removed at the next
// start.
func (e *Engine) discard(ctx context.Context, c *Container, r Record, volumes bool) error {
	if err := errors.Join(c.closeStreams(), e.tasks.Discard(ctx, r.ID)); err != nil {
		return err
	}
	if volumes {
		e.removeAnonymous(r)
	}
	return os.RemoveAll(c.dir)
}

func (c *Container) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// volumeUsers returns the containers that mount a volume.
func (e *Engine) volumeUsers(name string) []string {
	var users []string
	for _, c := range e.containers.all() {
		for _, m := range c.snapshot().Mounts {
			if m.Type == mount.TypeVolume && m.Name == name {
				users = append(users, c.id)
			}
		}
	}
	return users
}

// Prune removes the containers that do not run and match the filters, and
// returns their IDs and the disk space that came free.
func (e *Engine) Prune(ctx context.Context, f filter.Args) ([]string, uint64, error) {
	if err := f.Check("label", "until"); err != nil {
		return nil, 0, err
	}
	removed, freed := []string{}, uint64(0)
	for _, c := range e.containers.all() {
		r := c.snapshot()
		old, err := before(f["until"], r.Created)
		if err != nil {
			return removed, freed, err
		}
		if r.State.Running || !old || !f.Labels(r.Config.Labels) {
			continue
		}
		size, err := e.tasks.Usage(ctx, c.id)
		if err != nil {
			size = 0
		}
		if err := e.remove(ctx, c, RemoveOptions{}); err != nil {
			continue
		}
		removed = append(removed, r.ID)
		freed += uint64(size)
	}
	e.publishPrune(events.ContainerEventType, freed)
	return removed, freed, nil
}
