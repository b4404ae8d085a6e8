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

	"byre.dev/byre/internal/engine/task"
	"byre.dev/byre/internal/shimapi"
)

// drainPatience is how long output may fail to come after the end of a process
// before it is taken to be complete.
const drainPatience = 10 * time.Second

// follow waits for the end of a run in a goroutine of the engine's.
func (e *Engine) follow(c *Container, run *run) {
	e.run.Go(func() {
		exit, cause := e.awaitExit(c)
		if e.ctx.Err() != nil {
			// The daemon ends, the container does not.
			return
		}
		e.ended(c, run, exit, cause)
	})
}

// awaitExit waits for the end of a container's first process. A task that went
// without an answer is looked for again before it is given up.
func (e *Engine) awaitExit(c *Container) (task.Exit, error) {
	lost := task.Exit{Code: exitLost, At: time.Now().UTC()}
	for attempt := 0; ; attempt++ {
		exit, err := e.tasks.Wait(e.ctx, c.id, "")
		if err == nil {
			return e.outcome(c, exit)
		}
		if e.ctx.Err() != nil {
			return lost, err
		}
		st, statusErr := e.tasks.Status(e.ctx, c.id)
		switch {
		case statusErr == nil && st.Exit != nil:
			return e.outcome(c, *st.Exit)
		case errdefs.IsNotFound(statusErr):
			return lost, fmt.Errorf("the container's shim ended, and its machine with it: %w", err)
		case attempt == 5:
			return lost, fmt.Errorf("the container's machine does not answer: %w; before that: %w", statusErr, err)
		}
		select {
		case <-e.ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// outcomeWait bounds the question of how a container ended.
const outcomeWait = 5 * time.Second

// outcome adds what the container's shim knows of its end. A shim that is gone
// has nothing to add: the exit stands.
func (e *Engine) outcome(c *Container, exit task.Exit) (task.Exit, error) {
	ctx, cancel := context.WithTimeout(e.ctx, outcomeWait)
	defer cancel()
	var r *shimapi.OutcomeResponse
	err := e.callShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) (err error) {
		r, err = shim.Outcome(ctx, &shimapi.OutcomeRequest{ContainerId: c.id})
		return err
	})
	if err != nil {
		c.log.Warn("how the container ended is not known in full", "err", err)
		return exit, nil
	}
	exit.OOMKilled = r.GetOomKilled()
	if reason := r.GetMachineError(); reason != "" {
		return exit, errors.New(reason)
	}
	return exit, nil
}

// ended takes note of the end of a run and clears it away.
func (e *Engine) ended(c *Container, run *run, exit task.Exit, cause error) {
	c.mu.Lock()
	hub := c.hub
	c.mu.Unlock()
	if hub != nil {
		hub.Finish(drainPatience)
	}
	// The log is whole before anybody hears of the end.
	if err := c.closeStreams(); err != nil {
		c.log.Warn("streams not closed", "err", err)
	}
	restart := e.willRestart(c, exit)
	if exit.OOMKilled {
		e.publish(c, events.ActionOOM, nil)
	}
	c.noteExit(exit, cause, restart)
	close(run.over)
	e.publish(c, events.ActionDie, map[string]string{
		"exitCode": fmt.Sprint(exit.Code), "execDuration": fmt.Sprint(int(time.Since(c.snapshot().State.StartedAt).Seconds())),
	})
	c.log.Info("container ended", "exit", exit.Code, "err", cause)
	// A user's restart waits for the clearing, and may be over right after it.
	r := c.snapshot()
	doomed := r.Host.AutoRemove && !r.State.Removing && !restart && !c.kept()
	e.clear(c, run, doomed)
	switch {
	case restart:
		e.restartLater(c, exit)
	case doomed:
		if err := e.remove(e.ctx, c, RemoveOptions{Volumes: true}); err != nil && !errdefs.IsNotFound(err) && e.ctx.Err() == nil {
			c.log.Error("container not removed", "err", err)
		}
	}
}

// noteExit writes the end into the record and wakes the waiters.
func (c *Container) noteExit(exit task.Exit, cause error, restart bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exits++
	if restart {
		c.noRestart = make(chan struct{})
	}
	err := c.updateLocked(func(r *Record) {
		r.State.Running, r.State.Restarting = restart, restart
		r.State.Paused, r.State.PID = false, 0
		r.State.ExitCode, r.State.Finished, r.State.OOMKilled = exit.Code, exit.At, exit.OOMKilled
		if h := r.State.Health; h != nil {
			r.State.Health = &container.Health{Status: container.Unhealthy, FailingStreak: h.FailingStreak, Log: h.Log}
		}
		if cause != nil {
			r.State.Error = cause.Error()
		}
	})
	if err != nil {
		c.log.Error("container not saved", "err", err)
	}
}

// clearTimeout bounds the clearing away after a run, in which the guest writes
// its disks out.
const clearTimeout = 2 * time.Minute

// clear removes what a run had: its task with the machine, and its connection.
// Doomed says that the container is removed next: nobody gets at its files any
// more, which then need not be written out.
func (e *Engine) clear(c *Container, run *run, doomed bool) {
	// However long the one takes that has it: who waits for this run's end waits
	// for this.
	if err := c.lock(e.ctx); err != nil {
		c.log.Warn("container's task not removed: the daemon ends", "err", err)
		return
	}
	defer c.unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), clearTimeout)
	defer cancel()
	if doomed && !c.isGone() {
		c.note(func(r *Record) { r.State.Removing, r.State.RemovingVolumes = true, true })
		e.forsake(ctx, c)
	}
	r := c.snapshot()
	if err := errors.Join(e.tasks.Delete(ctx, c.id), e.disconnect(ctx, r)); err != nil {
		c.log.Error("container's task not removed", "err", err)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Connections)) {
		e.publishNetwork(events.ActionDisconnect, name, r.ID)
	}
	e.publishVolumes(events.ActionUnmount, r)
	e.execs.drop(c.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = nil
	c.rec.Connections = nil
	close(run.cleared)
	if err := c.updateLocked(func(*Record) {}); err != nil {
		c.log.Error("container not saved", "err", err)
	}
}

// forsake tells the container's shim that its files are not read again. A shim
// that does not hear of it, an older one or one whose machine is gone, takes the
// longer way.
func (e *Engine) forsake(ctx context.Context, c *Container) {
	err := e.callShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		_, err := shim.Discard(ctx, &shimapi.DiscardRequest{ContainerId: c.id})
		return err
	})
	if err != nil {
		c.log.Debug("the end of the container's files is not announced", "err", err)
	}
}

// closeStdin ends the standard input of a container's first process.
func (e *Engine) closeStdin(c *Container) {
	err := e.tasks.CloseStdin(e.ctx, c.id, "")
	if err != nil && !errdefs.IsNotFound(err) && e.ctx.Err() == nil {
		c.log.Warn("standard input not closed", "err", err)
	}
}
