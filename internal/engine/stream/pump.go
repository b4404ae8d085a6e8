// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"os"
	"time"
)

const (
	// chunk is how much is read at once, and the size that a FIFO is given.
	chunk = 256 << 10
	// firstChunk is how much is read until a read fills it: most processes write
	// little.
	firstChunk = 16 << 10
	// lineIdle is how long an unfinished line waits for its end before it is
	// logged as it is, so that a kill of the daemon cannot lose it.
	lineIdle = 500 * time.Millisecond
)

// pump carries one output stream to its end.
func (h *Hub) pump(o *output) {
	defer h.endOutput(o)
	buf := make([]byte, firstChunk)
	for {
		n, err := h.read(o, buf)
		if n > 0 {
			h.deliver(o, buf[:n])
		}
		if err != nil {
			return
		}
		if n == len(buf) && n < chunk {
			buf = make([]byte, min(4*n, chunk))
		}
	}
}

// read reads from the FIFO and flushes an unfinished line of the log when
// nothing follows it.
func (h *Hub) read(o *output, buf []byte) (int, error) {
	for {
		idle := h.cfg.Sink != nil && h.cfg.Sink.Pending(o.name)
		o.deadline(idle)
		n, err := o.f.Read(buf)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if !idle {
			if o.limited() {
				return 0, err
			}
			continue
		}
		if err := h.cfg.Sink.Flush(o.name, time.Now()); err != nil {
			h.cfg.Logger.Error("container log not written", "stream", o.name, "err", err)
		}
	}
}

// deliver logs output and hands it to the clients.
func (h *Hub) deliver(o *output, p []byte) {
	if h.cfg.Sink != nil {
		if err := h.cfg.Sink.Write(o.name, p, time.Now()); err != nil {
			h.cfg.Logger.Error("container log not written", "stream", o.name, "err", err)
		}
	}
	h.mu.Lock()
	var takers []*Client
	for c := range h.clients {
		if c.wants(o.kind) {
			takers = append(takers, c)
		}
	}
	h.mu.Unlock()
	if len(takers) == 0 {
		return
	}
	shared := Chunk{Kind: o.kind, Data: append([]byte(nil), p...)}
	for _, c := range takers {
		c.push(shared)
	}
}

func (h *Hub) endOutput(o *output) {
	if h.cfg.Sink == nil || !h.cfg.Sink.Pending(o.name) {
		return
	}
	if err := h.cfg.Sink.Flush(o.name, time.Now()); err != nil {
		h.cfg.Logger.Error("container log not written", "stream", o.name, "err", err)
	}
}

// limit bounds the wait for more output from now on.
func (o *output) limit(patience time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.patience = patience
	if o.f != nil {
		// A read under way ends by this bound, too.
		_ = o.f.SetReadDeadline(time.Now().Add(patience))
	}
}

func (o *output) limited() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.patience > 0
}

// deadline sets the bound of the next read.
func (o *output) deadline(idle bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var at time.Time
	switch {
	case idle:
		at = time.Now().Add(lineIdle)
	case o.patience > 0:
		at = time.Now().Add(o.patience)
	}
	_ = o.f.SetReadDeadline(at)
}
