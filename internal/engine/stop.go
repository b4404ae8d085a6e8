// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
)

// StopOptions say how to stop a container.
type StopOptions struct {
	// Signal is sent first; empty means the container's own.
	Signal string
	// Timeout is how many seconds the container gets before it is killed;
	// nil means the container's own, negative means for ever.
	Timeout *int
}

// defaultStopTimeout is dockerd's.
const defaultStopTimeout = 10

// killPatience is how long a killed container may take to go.
const killPatience = 30 * time.Second

// Stop stops a container; errdefs' ErrNotModified says that it did not run.
func (e *Engine) Stop(ctx context.Context, ref string, opts StopOptions) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	if !c.snapshot().State.Running {
		return errdefs.ErrNotModified.WithMessage("container " + c.id + " is already stopped")
	}
	return e.stop(ctx, c, opts, false)
}

// stop ends a run and waits until it is cleared away. restarting means that
// the container is to be started again.
func (e *Engine) stop(ctx context.Context, c *Container, opts StopOptions, restarting bool) error {
	r := c.snapshot()
	if opts.Signal == "" {
		opts.Signal = r.Config.StopSignal
	}
	sig, err := parseSignal(opts.Signal, sigTerm)
	if err != nil {
		return err
	}
	c.note(func(r *Record) { r.Stopped = true })
	c.cancelRestart()
	run, err := c.running()
	if err != nil {
		return nil
	}
	// What a client asked for is done, whether the client waits or not.
	ctx = context.WithoutCancel(ctx)
	exits := c.exitCount()
	if err := e.signal(ctx, c, sig); err != nil {
		return err
	}
	if !c.awaitExits(ctx, exits, stopTimeout(r, opts)) {
		if err := e.signal(ctx, c, sigKill); err != nil {
			return err
		}
		if !c.awaitExits(ctx, exits, killPatience) {
			return fmt.Errorf("container %s did not end within %s after SIGKILL: remove it with force", short(c.id), killPatience)
		}
	}
	<-run.cleared
	if !restarting {
		e.publish(c, events.ActionStop, nil)
	}
	return nil
}

func stopTimeout(r Record, opts StopOptions) time.Duration {
	seconds := defaultStopTimeout
	if r.Config.StopTimeout != nil {
		seconds = *r.Config.StopTimeout
	}
	if opts.Timeout != nil {
		seconds = *opts.Timeout
	}
	if seconds < 0 {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// signal sends a signal to a container's first process; one that has just ended
// is no error. A paused container is resumed so that it can act on it.
func (e *Engine) signal(ctx context.Context, c *Container, sig syscall.Signal) error {
	err := e.tasks.Kill(ctx, c.id, "", sig, false)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return fmt.Errorf("send signal %d: %w", int(sig), err)
	}
	if c.snapshot().State.Paused {
		if err := e.tasks.Resume(ctx, c.id); err == nil {
			c.note(func(r *Record) { r.State.Paused = false })
		}
	}
	return nil
}

// Kill sends a signal to a container; SIGKILL when the signal is empty. With
// SIGKILL it waits for the end.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	sig, err := parseSignal(signal, sigKill)
	if err != nil {
		return err
	}
	r := c.snapshot()
	if r.State.Restarting {
		c.note(func(r *Record) { r.Stopped = true })
		c.cancelRestart()
		return nil
	}
	run, err := c.running()
	if err != nil {
		return err
	}
	stopSignal, err := parseSignal(r.Config.StopSignal, sigTerm)
	if err != nil {
		return err
	}
	if sig == sigKill || sig == stopSignal {
		c.note(func(r *Record) { r.Stopped = true })
	}
	ctx = context.WithoutCancel(ctx)
	exits := c.exitCount()
	if err := e.signal(ctx, c, sig); err != nil {
		return err
	}
	e.publish(c, events.ActionKill, map[string]string{"signal": fmt.Sprint(int(sig))})
	if sig != sigKill {
		return nil
	}
	if !c.awaitExits(ctx, exits, killPatience) {
		return fmt.Errorf("container %s did not end within %s after SIGKILL: remove it with force", short(c.id), killPatience)
	}
	<-run.cleared
	return nil
}

// cancelRestart makes a container that waits for its restart a stopped one.
func (c *Container) cancelRestart() {
	c.endRestart()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.rec.State.Restarting || c.current != nil {
		return
	}
	err := c.updateLocked(func(r *Record) { r.State.Running, r.State.Restarting = false, false })
	if err != nil {
		c.log.Error("container not saved", "err", err)
	}
}

// Pause stops the processes of a container where they are.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	return e.freeze(ctx, ref, true)
}

// Unpause undoes Pause.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	return e.freeze(ctx, ref, false)
}

func (e *Engine) freeze(ctx context.Context, ref string, pause bool) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	r := c.snapshot()
	call, action := e.tasks.Resume, events.ActionUnPause
	switch {
	case !r.State.Running:
		return errNotRunning(c.id)
	case r.State.Restarting:
		return conflict("Container %s is restarting, wait until the container is running", c.id)
	case pause && r.State.Paused:
		return conflict("Container %s is already paused", c.id)
	case !pause && !r.State.Paused:
		return conflict("Container %s is not paused", c.id)
	case pause:
		call, action = e.tasks.Pause, events.ActionPause
	}
	if err := call(context.WithoutCancel(ctx), c.id); err != nil {
		return fmt.Errorf("%s container %s: %w", action, short(c.id), err)
	}
	c.note(func(r *Record) { r.State.Paused = pause })
	e.publish(c, action, nil)
	return nil
}
