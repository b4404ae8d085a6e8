// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"byre.dev/byre/internal/engine/event"
)

// A container whose policy starts it again is stopped in the moment in which its
// run is over and not yet cleared away: there is no process to signal, no other
// end to wait for, and it is not to be left as one that restarts.
func TestAStopBetweenTheEndOfARunAndItsRestart(t *testing.T) {
	for name, end := range map[string]func(context.Context, *Engine, *Container) error{
		"stop": func(ctx context.Context, e *Engine, c *Container) error { return e.stop(ctx, c, StopOptions{}, false) },
		"rm":   func(ctx context.Context, e *Engine, c *Container) error { return e.killForRemoval(ctx, c) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, c := joinable(t, true)
				e.Events = &event.Broker{}
				run := c.current
				c.rec.State.Restarting = true
				c.noRestart = make(chan struct{})
				close(run.over)
				go func() { // ends before the bubble does
					time.Sleep(time.Second)
					c.mu.Lock()
					c.current = nil
					c.mu.Unlock()
					close(run.cleared)
				}()
				begin := time.Now()
				if err := end(t.Context(), e, c); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin); took != time.Second {
					t.Errorf("took %v, want the time until the run was cleared away", took)
				}
				if s := c.snapshot().State; s.Running || s.Restarting {
					t.Errorf("running %v, restarting %v; want neither", s.Running, s.Restarting)
				}
			})
		})
	}
}

// A stop that comes while the policy's start is under way ends what is started.
func TestAStopDuringARestartWaitsForItAndEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c := joinable(t, false)
		e.Events = &event.Broker{}
		c.rec.State.Running, c.rec.State.Restarting = true, true
		c.noRestart = make(chan struct{})
		if err := c.lock(t.Context()); err != nil { // as the start has it
			t.Fatal(err)
		}
		run := newRun()
		close(run.over) // no process is there to be signalled
		go func() {     // ends before the bubble does
			time.Sleep(time.Second)
			c.mu.Lock()
			c.current = run
			c.rec.Stopped, c.rec.State = false, State{Running: true}
			c.mu.Unlock()
			c.unlock()
			time.Sleep(time.Second)
			close(run.cleared)
		}()
		begin := time.Now()
		if err := e.stop(t.Context(), c, StopOptions{}, false); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("took %v, want the time until the run was cleared away", took)
		}
		if !c.snapshot().Stopped {
			t.Error("the policy would start it again")
		}
	})
}
