// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// maxWaiting bounds streams that nobody has taken yet.
	maxWaiting = 256
	// streamWait is how long a stream waits for its taker and a taker for its
	// stream: as long as the host waits for the container that it is of.
	streamWait = 2 * time.Minute
)

// Hub holds arrived streams until they are taken. Use NewHub.
type Hub struct {
	mu sync.Mutex
	// waiting has streams without a taker. Guarded by mu.
	waiting map[string]*arrival
	// takers has those who wait for a stream. Guarded by mu.
	takers map[string]chan net.Conn
	closed bool
}

type arrival struct {
	conn  net.Conn
	timer *time.Timer
}

// NewHub returns an empty Hub.
func NewHub() *Hub {
	return &Hub{waiting: map[string]*arrival{}, takers: map[string]chan net.Conn{}}
}

// Check tells whether a stream of that name would be accepted now.
func (h *Hub) Check(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.checkLocked(name)
}

func (h *Hub) checkLocked(name string) error {
	switch {
	case h.closed:
		return errors.New("the guest is shutting down")
	case name == "":
		return errors.New("a stdio stream needs a name")
	case h.waiting[name] != nil:
		return fmt.Errorf("stream %q is there already", name)
	case len(h.waiting) >= maxWaiting:
		return fmt.Errorf("%d streams wait for a process already", maxWaiting)
	}
	return nil
}

// Put offers an arrived stream under its name. The Hub owns conn from then on,
// also when Put fails, and closes it when nobody takes it in time.
func (h *Hub) Put(name string, conn net.Conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.checkLocked(name); err != nil {
		conn.Close()
		return err
	}
	if c, ok := h.takers[name]; ok {
		delete(h.takers, name)
		c <- conn // capacity 1, sent once
		return nil
	}
	a := &arrival{conn: conn}
	a.timer = time.AfterFunc(streamWait, func() { h.drop(name, a) })
	h.waiting[name] = a
	return nil
}

func (h *Hub) drop(name string, a *arrival) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[name] == a {
		delete(h.waiting, name)
		a.conn.Close()
	}
}

// Take returns the stream of that name, waiting for it for a bounded time. The
// caller owns it.
func (h *Hub) Take(ctx context.Context, name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	conn, err := h.Await(ctx, name, nil)
	if err != nil {
		return nil, fmt.Errorf("stream %q was not opened: %w", name, err)
	}
	return conn, nil
}

var errStopped = errors.New("the wait was stopped")

// Await is Take without a bound of its own; it ends also when stop is closed.
func (h *Hub) Await(ctx context.Context, name string, stop <-chan struct{}) (net.Conn, error) {
	h.mu.Lock()
	if a := h.waiting[name]; a != nil {
		delete(h.waiting, name)
		a.timer.Stop()
		h.mu.Unlock()
		return a.conn, nil
	}
	if h.closed || h.takers[name] != nil {
		h.mu.Unlock()
		return nil, errors.New("the name is in use or the guest is shutting down")
	}
	c := make(chan net.Conn, 1)
	h.takers[name] = c
	h.mu.Unlock()
	select {
	case conn := <-c:
		return conn, nil
	case <-ctx.Done():
	case <-stop:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case conn := <-c: // it came while the wait ended
		conn.Close()
	default:
		delete(h.takers, name)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, errStopped
}

// Reset closes all streams that nobody took: the link they came by is gone.
func (h *Hub) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resetLocked()
}

func (h *Hub) resetLocked() {
	for name, a := range h.waiting {
		a.timer.Stop()
		a.conn.Close()
		delete(h.waiting, name)
	}
}

// Close closes all streams that nobody took and refuses later ones.
func (h *Hub) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.resetLocked()
	return nil
}
