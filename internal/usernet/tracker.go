// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"sync"
	"time"
)

const (
	// maxConns bounds the TCP connections of one endpoint, dials included.
	maxConns = 2048
	// maxDials bounds the connections that wait for an answer from outside; it
	// leaves room for some endpoints at their limit.
	maxDials = 64 * maxConns
)

// tracker holds what must end with an endpoint: its dials and connections, each
// a goroutine with a context of its own.
type tracker struct {
	limit int
	wg    sync.WaitGroup

	// mu guards what follows, and the start of goroutines against stop.
	mu      sync.Mutex
	cancels map[*context.CancelFunc]struct{}
	closed  bool
}

func newTracker(limit int) *tracker {
	return &tracker{limit: limit, cancels: map[*context.CancelFunc]struct{}{}}
}

// begin admits the calling goroutine. It returns a context that ends when the
// endpoint goes, and what the goroutine must call at its end; or false when the
// endpoint is gone or at its limit.
func (t *tracker) begin() (context.Context, func(), bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.cancels) >= t.limit {
		return nil, nil, false
	}
	// There is no caller: what is tracked was asked for by a packet.
	ctx, cancel := context.WithCancel(context.Background())
	t.cancels[&cancel] = struct{}{}
	t.wg.Add(1)
	return ctx, func() {
		cancel()
		t.mu.Lock()
		delete(t.cancels, &cancel)
		t.mu.Unlock()
		t.wg.Done()
	}, true
}

// run runs f in a goroutine of its own, and says whether it was admitted.
func (t *tracker) run(f func(context.Context)) bool {
	ctx, end, ok := t.begin()
	if !ok {
		return false
	}
	// done waits for it.
	go func() {
		defer end()
		f(ctx)
	}()
	return true
}

// abort ends what is tracked and does not wait.
func (t *tracker) abort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for cancel := range t.cancels {
		(*cancel)()
	}
}

// stop ends what is tracked and admits nothing any more. It does not wait.
func (t *tracker) stop() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.abort()
}

// done returns a channel that is closed when all goroutines have ended; stop
// comes first.
func (t *tracker) done() <-chan struct{} {
	done := make(chan struct{})
	// The receiver waits for it.
	go func() {
		t.wg.Wait()
		close(done)
	}()
	return done
}

// sleep waits for d and says whether ctx still holds.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
