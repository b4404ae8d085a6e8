// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"io"
	"slices"
	"sync"
)

// queueSize is how many bytes wait for a client before it holds the process up.
const queueSize = 1 << 20

// Chunk is a piece of output. Its data is shared: it must not be changed.
type Chunk struct {
	// Kind is the stream it came from.
	Kind Kind
	// Data is what was written.
	Data []byte
}

// Client is one taker of a hub's output. Detach must be called.
type Client struct {
	hub   *Hub
	kinds []Kind

	// mu guards what follows.
	mu    sync.Mutex
	queue []Chunk
	size  int
	ended bool
	gone  bool
	// ready is closed when the queue gets its first chunk or the end comes;
	// room is closed when the queue has room again or the client is gone.
	ready, room chan struct{}
}

// Attach adds a client for the output streams named; none means that it takes
// no output and learns of the end alone. The client of a hub that has ended
// gets the end at once.
func (h *Hub) Attach(kinds ...Kind) *Client {
	c := &Client{hub: h, kinds: kinds, ready: make(chan struct{}), room: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		c.ended = true
		close(c.ready)
		return c
	}
	h.clients[c] = struct{}{}
	return c
}

// Clients returns how many clients are attached.
func (h *Hub) Clients() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients)
}

func (c *Client) wants(k Kind) bool { return slices.Contains(c.kinds, k) }

// push queues a chunk; it waits for room unless the client is gone.
func (c *Client) push(ch Chunk) {
	for {
		c.mu.Lock()
		if c.gone || c.ended {
			c.mu.Unlock()
			return
		}
		if c.size < queueSize {
			c.queue = append(c.queue, ch)
			if c.size += len(ch.Data); len(c.queue) == 1 {
				close(c.ready)
			}
			c.mu.Unlock()
			return
		}
		room := c.room
		c.mu.Unlock()
		<-room
	}
}

// end lets the client read what is queued and then the end.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	if len(c.queue) == 0 {
		close(c.ready)
	}
	// A pump may wait for room.
	close(c.room)
	c.room = make(chan struct{})
}

// Next returns the next chunk; io.EOF means that the streams have ended.
func (c *Client) Next(ctx context.Context) (Chunk, error) {
	for {
		c.mu.Lock()
		if len(c.queue) > 0 {
			ch := c.popLocked()
			c.mu.Unlock()
			return ch, nil
		}
		ended, ready := c.ended, c.ready
		c.mu.Unlock()
		if ended {
			return Chunk{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return Chunk{}, context.Cause(ctx)
		case <-ready:
		}
	}
}

func (c *Client) popLocked() Chunk {
	ch := c.queue[0]
	c.queue[0] = Chunk{}
	c.queue = c.queue[1:]
	full := c.size >= queueSize
	if c.size -= len(ch.Data); full && c.size < queueSize {
		close(c.room)
		c.room = make(chan struct{})
	}
	if len(c.queue) == 0 {
		c.queue = nil
		if !c.ended {
			c.ready = make(chan struct{})
		}
	}
	return ch
}

// Detach takes the client off its hub and drops its queue. It is idempotent.
func (c *Client) Detach() {
	c.hub.mu.Lock()
	delete(c.hub.clients, c)
	c.hub.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	close(c.room)
	c.room = make(chan struct{})
}
