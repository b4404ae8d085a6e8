// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"byre.dev/byre/internal/engine/task"
)

const (
	// firstDelay is the wait before the first restart; it doubles with each.
	firstDelay = 100 * time.Millisecond
	maxDelay   = time.Minute
	// steady is how long a run must last for the delay to start over.
	steady = 10 * time.Second
)

// willRestart says whether the container's policy starts it again.
func (e *Engine) willRestart(c *Container, exit task.Exit) bool {
	r := c.snapshot()
	if r.Stopped || r.State.Removing {
		return false
	}
	return policyRestarts(r.Host.RestartPolicy, exit.Code, r.Restarts)
}

func policyRestarts(p container.RestartPolicy, code, restarts int) bool {
	switch p.Name {
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
		return true
	case container.RestartPolicyOnFailure:
		return code != 0 && (p.MaximumRetryCount == 0 || restarts < p.MaximumRetryCount)
	}
	return false
}

// restartLater starts a container again after its delay, in this goroutine.
func (e *Engine) restartLater(c *Container, exit task.Exit) {
	c.mu.Lock()
	stop := c.noRestart
	if exit.At.Sub(c.rec.State.StartedAt) > steady {
		c.rec.Restarts = 0
	}
	delay := min(firstDelay<<min(c.rec.Restarts, 16), maxDelay)
	c.mu.Unlock()
	if stop == nil {
		return
	}
	select {
	case <-e.ctx.Done():
		return
	case <-stop:
		c.cancelRestart()
		return
	case <-time.After(delay):
	}
	if err := c.lock(e.ctx); err != nil {
		return
	}
	defer c.unlock()
	r := c.snapshot()
	if !r.State.Restarting || r.Stopped || r.State.Removing {
		c.cancelRestart() // nobody else does who found it still being cleared away
		return
	}
	c.note(func(r *Record) { r.Restarts++ })
	if err := e.startLocked(e.ctx, c); err != nil {
		c.log.Error("container not restarted", "err", err)
	}
}

// Restart stops a container, if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, ref string, opts StopOptions) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	// What a client asked for is done, whether the client waits or not: stopped
	// and never started would be worse than either.
	ctx = context.WithoutCancel(ctx)
	// With --rm the stop must not take the container away.
	c.setKeep(true)
	defer c.setKeep(false)
	if c.snapshot().State.Running {
		if err := e.stop(ctx, c, opts, true); err != nil {
			return err
		}
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if c.snapshot().State.Running {
		return nil
	}
	if err := e.startLocked(ctx, c); err != nil {
		return err
	}
	e.publish(c, events.ActionRestart, nil)
	return nil
}

// shown is the record as clients are shown it: between the end and the start of a
// restart that was asked for, which takes a machine's time, a container has not
// ended. Compose would take it for that, and end itself with the last one.
func (c *Container) shown() Record {
	r := c.snapshot()
	if !r.State.Running && c.kept() {
		r.State.Running, r.State.Restarting = true, true
	}
	return r
}

func (c *Container) setKeep(keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = keep
}

func (c *Container) kept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keep
}
