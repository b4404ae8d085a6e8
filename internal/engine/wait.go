// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"
)

// Waiter waits for something to happen to a container. It sees everything
// since it was made.
type Waiter struct {
	c         *Container
	condition container.WaitCondition
	exits     int
}

// Waiter makes a waiter for a condition; "" means not-running.
func (e *Engine) Waiter(ref string, condition container.WaitCondition) (*Waiter, error) {
	switch condition {
	case "", container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, invalid("invalid condition: %q", condition)
	}
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, err
	}
	return &Waiter{c: c, condition: condition, exits: c.exitCount()}, nil
}

// Wait returns the exit code once the condition holds.
func (w *Waiter) Wait(ctx context.Context) (container.WaitResponse, error) {
	for {
		w.c.mu.Lock()
		changed, done := w.c.changed, w.doneLocked()
		resp := container.WaitResponse{StatusCode: int64(w.c.rec.State.ExitCode)}
		// As in dockerd, a removal leaves no error behind.
		if text := w.c.rec.State.Error; text != "" && done && !w.c.gone {
			resp.Error = &container.WaitExitError{Message: text}
		}
		w.c.mu.Unlock()
		if done {
			return resp, nil
		}
		select {
		case <-ctx.Done():
			return resp, context.Cause(ctx)
		case <-changed:
		}
	}
}

func (w *Waiter) doneLocked() bool {
	switch w.condition {
	case container.WaitConditionRemoved:
		return w.c.gone
	case container.WaitConditionNextExit:
		return w.c.gone || w.c.exits > w.exits
	}
	return w.c.gone || w.c.exits > w.exits || !w.c.rec.State.Running
}

func (c *Container) exitCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exits
}
