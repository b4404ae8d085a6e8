// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"byre.dev/byre/internal/engine/spec"
	"byre.dev/byre/internal/engine/stream"
	"byre.dev/byre/internal/engine/task"
	"byre.dev/byre/internal/shimapi"
)

// Start starts a container. It returns when its process runs; errdefs'
// ErrNotModified says that it ran already.
func (e *Engine) Start(ctx context.Context, ref string) error {
	c, err := e.held(ctx, ref)
	if err != nil {
		return err
	}
	defer c.unlock()
	r := c.snapshot()
	switch {
	case r.State.Removing, r.State.Dead:
		return conflict("container is marked for removal and cannot be started")
	case r.State.Paused:
		return conflict("cannot start a paused container, try unpause instead")
	case r.State.Running && !r.State.Restarting:
		return errdefs.ErrNotModified.WithMessage("container " + r.ID + " is already running")
	}
	c.endRestart()
	err = e.startLocked(ctx, c)
	if err != nil && r.Host.AutoRemove {
		return errors.Join(err, e.removeLocked(context.WithoutCancel(ctx), c, RemoveOptions{Volumes: true}))
	}
	return err
}

// startLocked starts a container whose op is held.
func (e *Engine) startLocked(ctx context.Context, c *Container) error {
	leave, err := e.starts.enter(ctx, c.id)
	if err != nil {
		return err
	}
	defer leave()
	if e.cfg.Starting != nil {
		defer e.cfg.Starting()()
	}
	t := newTimeline()
	// A client that goes away does not leave half a container behind.
	ctx = context.WithoutCancel(ctx)
	attached, pid, err := e.boot(ctx, c, t)
	if err != nil {
		return e.startFailed(ctx, c, err)
	}
	run := newRun()
	c.mu.Lock()
	c.current = run
	err = c.updateLocked(func(r *Record) {
		r.Connections, r.Stopped = attached, false
		r.State = State{Running: true, PID: int(pid), StartedAt: time.Now().UTC(), Health: firstHealth(r.Config)}
	})
	ended := c.stdinEnded
	c.mu.Unlock()
	if err != nil {
		c.log.Error("container not saved", "err", err)
	}
	if ended {
		e.closeStdin(c)
	}
	e.follow(c, run)
	e.watchHealth(c, run)
	e.relink(c.id)
	for _, name := range slices.Sorted(maps.Keys(attached)) {
		e.publishNetwork(events.ActionConnect, name, c.id)
	}
	e.publishVolumes(events.ActionMount, c.snapshot())
	e.publish(c, events.ActionStart, nil)
	c.log.Info("container started", "took", t.total(), "stages", t.stages())
	return nil
}

// boot connects the container and creates and starts its task. When it fails,
// the network is as before; the streams stay for the next attempt.
func (e *Engine) boot(ctx context.Context, c *Container, t *timeline) (attached map[string]*Attached, pid uint32, err error) {
	r := c.snapshot()
	group, target, joined, err := e.group(r)
	if err != nil {
		return nil, 0, err
	}
	r.Group = group
	hub, settings, attached, err := e.connectAndOpen(ctx, c, r)
	t.mark("network")
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.disconnect(ctx, r))
		}
	}()
	io := task.Stdio{Terminal: r.Config.Tty}
	io.Stdin, io.Stdout, io.Stderr = hub.Paths()
	hub.Run()
	t.mark("spec")
	if err = c.touch(); err != nil {
		return nil, 0, err
	}
	if err = e.createTask(ctx, r, settings, io); err != nil {
		return nil, 0, err
	}
	hub.Opened()
	t.mark("create")
	if err = stillJoined(target, joined); err == nil {
		pid, err = e.tasks.Start(ctx, r.ID, "")
	}
	t.mark("start")
	if err != nil {
		e.tasks.Clean(ctx, r.ID)
	}
	if err == nil {
		c.note(func(rec *Record) { rec.Group = group })
	}
	return attached, pid, err
}

// connectAndOpen connects the network while the streams are opened.
func (e *Engine) connectAndOpen(ctx context.Context, c *Container, r Record) (hub *stream.Hub, settings shimapi.Network, attached map[string]*Attached, err error) {
	var g errgroup.Group
	g.Go(func() (err error) {
		settings, attached, err = e.connect(ctx, r)
		return err
	})
	g.Go(func() (err error) {
		hub, err = c.streams()
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, settings, nil, errors.Join(err, e.disconnect(ctx, r))
	}
	return hub, settings, attached, nil
}

// startFailed notes why a container did not start.
func (e *Engine) startFailed(ctx context.Context, c *Container, cause error) error {
	err, code := startError(cause, "failed to create task for container: ")
	c.note(func(r *Record) {
		r.State.Running, r.State.Restarting, r.State.PID = false, false, 0
		r.State.ExitCode, r.State.Error = code, err.Error()
		r.Connections = nil
	})
	if closeErr := c.closeStreams(); closeErr != nil {
		c.log.Warn("streams not closed", "err", closeErr)
	}
	e.publish(c, events.ActionDie, map[string]string{"exitCode": fmt.Sprint(code)})
	return err
}

// specInput is a container as package spec takes it; the network is still
// missing. Fill has the places of volumes that are to be filled.
func (e *Engine) specInput(r Record, fill map[string]bool) spec.Container {
	in := spec.Container{ID: r.ID, Config: r.Config, Host: r.Host, Group: r.Group, Kernel: e.cfg.Build.Kernel, Seccomp: defaultSeccomp}
	for _, m := range r.Mounts {
		in.Mounts = append(in.Mounts, spec.Mount{
			Source: e.hostSource(m), Destination: m.Destination, ReadOnly: m.ReadOnly,
			NonRecursive: m.NonRecursive, Options: m.Options, Settings: m.settings(fill[m.Destination]),
		})
	}
	return in
}

// withImages adds to a specification's input the disks of the images that the
// container mounts.
func (e *Engine) withImages(ctx context.Context, in *spec.Container, r Record) (err error) {
	for i, m := range r.Mounts {
		if m.Type != mount.TypeImage {
			continue
		}
		if in.Mounts[i].Settings, err = e.imageLayers(ctx, r.ID, m); err != nil {
			return err
		}
	}
	return nil
}

// Rehearsal is the specification of a container as byre run makes it, with no
// image, network or command of its own: its process is the machine's init for
// containers, which ends at once for want of a command.
func Rehearsal() (*specs.Spec, error) {
	init := true
	r := Record{
		ID:     "rehearsal",
		Config: &container.Config{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"true"}},
		Host:   &container.HostConfig{Init: &init},
	}
	if err := completeHost(&r); err != nil {
		return nil, err
	}
	return spec.Build(spec.Container{ID: r.ID, Config: r.Config, Host: r.Host, Seccomp: defaultSeccomp})
}

// endRestart ends a wait for the next restart, if there is one.
func (c *Container) endRestart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noRestart != nil {
		close(c.noRestart)
		c.noRestart = nil
	}
}

func firstHealth(cfg *container.Config) *container.Health {
	if !hasHealthcheck(cfg) {
		return nil
	}
	return &container.Health{Status: container.Starting}
}
