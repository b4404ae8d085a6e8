// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"sync"
	"time"

	"byre.dev/byre/internal/vm"
)

// stopwatch measures the stages of a start.
type stopwatch struct {
	last   time.Time
	stages []vm.Stage
}

func newStopwatch() *stopwatch { return &stopwatch{last: time.Now()} }

// lap ends a stage.
func (w *stopwatch) lap(name string) {
	now := time.Now()
	w.stages = append(w.stages, vm.Stage{Name: name, Took: now.Sub(w.last)})
	w.last = now
}

// eventHolder keeps the monitor's events until there is a machine for them.
type eventHolder struct {
	mu sync.Mutex
	// The rest is guarded by mu.
	early  []event
	handle func(event)
}

// maxEarly bounds the events kept before there is a machine.
const maxEarly = 64

func (h *eventHolder) event(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle != nil {
		h.handle(e)
	} else if len(h.early) < maxEarly {
		h.early = append(h.early, e)
	}
}

func (h *eventHolder) give(handle func(event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handle = handle
	for _, e := range h.early {
		handle(e)
	}
	h.early = nil
}
