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
	run, err := c.lastRun(ctx)
	if err != nil {
		return ctx.Err()
	}
	// What a client asked for is done, whether the client waits or not.
	ctx = context.WithoutCancel(ctx)
	if err := e.signalRun(ctx, c, run, sig); err != nil {
		return err
	}
	if !run.awaitOver(ctx, stopTimeout(r, opts)) {
		if err := e.signalRun(ctx, c, run, sigKill); err != nil {
			return err
		}
		if !run.awaitOver(ctx, killPatience) {
			return fmt.Errorf("container %s did not end within %s after SIGKILL: remove it with force", short(c.id), killPatience)
		}
	}
	<-run.cleared
	c.cancelRestart() // the end may have been noted before it was to be the last
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

// noteTime bounds how much later the end of a process is noted than its shim
// stops to answer.
const noteTime = 10 * time.Second

// signalRun signals the process of a run. One whose run is over, or is just
// ending with its shim, needs none.
func (e *Engine) signalRun(ctx context.Context, c *Container, run *run, sig syscall.Signal) error {
	if run.isOver() {
		return nil
	}
	err := e.signal(ctx, c, sig)
	if err != nil && run.awaitOver(ctx, noteTime) {
		return nil
	}
	return err
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
	var run *run
	if r.State.Restarting {
		if run, err = c.lastRun(ctx); err != nil {
			return ctx.Err()
		}
	} else if run, err = c.running(); err != nil {
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
	if err := e.signalRun(ctx, c, run, sig); err != nil {
		return err
	}
	e.publish(c, events.ActionKill, map[string]string{"signal": fmt.Sprint(int(sig))})
	if sig != sigKill {
		return nil
	}
	if !run.awaitOver(ctx, killPatience) {
		return fmt.Errorf("container %s did not end within %s after SIGKILL: remove it with force", short(c.id), killPatience)
	}
	<-run.cleared
	return nil
}

// lastRun has the container's policy start it no more, and returns its run, which
// may be one that was being started: that is waited for.
func (c *Container) lastRun(ctx context.Context) (*run, error) {
	c.note(func(r *Record) { r.Stopped = true })
	c.cancelRestart()
	if run, err := c.running(); err == nil {
		return run, nil
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	c.unlock()
	run, err := c.running()
	if err == nil {
		c.note(func(r *Record) { r.Stopped = true }) // the start has said otherwise
	}
	return run, err
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
	c, err := e.held(ctx, ref)
	if err != nil {
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
