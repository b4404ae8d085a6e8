// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"net"
	"sync"
)

// maxQueued bounds in bytes what waits for one NIC. It holds some connections'
// windows, so that a NIC that reads loses nothing.
const maxQueued = 4 << 20

// frameQueue holds the frames that wait for a NIC, each with its length
// prefix. Senders never wait: what does not fit is dropped, as on a wire.
type frameQueue struct {
	// wake holds a token when there may be something to send.
	wake chan struct{}

	// mu guards what follows.
	mu     sync.Mutex
	frames net.Buffers
	bytes  int
}

func newFrameQueue() *frameQueue {
	return &frameQueue{wake: make(chan struct{}, 1)}
}

// push adds a frame, which the queue owns from here on, and says whether there
// was room.
func (q *frameQueue) push(frame []byte) bool {
	q.mu.Lock()
	if q.bytes+len(frame) > maxQueued {
		q.mu.Unlock()
		return false
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// drain writes what is queued to conn until a write fails or done is closed.
func (q *frameQueue) drain(conn net.Conn, done <-chan struct{}) {
	var spare net.Buffers
	for {
		select {
		case <-done:
			return
		case <-q.wake:
		}
		batch := q.take(spare)
		for rest := batch; len(rest) > 0; {
			n := fitting(rest)
			// WriteTo consumes its receiver, hence the copy of the slice header.
			part := rest[:n]
			if _, err := part.WriteTo(conn); err != nil {
				return
			}
			rest = rest[n:]
		}
		clear(batch)
		spare = batch[:0]
	}
}

// maxWrite bounds what is written at once, which on a socket of packets is a
// packet: QEMU reads this much (NET_BUFSIZE) and would lose the rest.
const maxWrite = 65536 + 4096

// fitting says how many of the frames go into one write: at least one.
func fitting(frames net.Buffers) int {
	size := 0
	for n, f := range frames {
		if size += len(f); size > maxWrite && n > 0 {
			return n
		}
	}
	return len(frames)
}

// take returns all queued frames and leaves spare in their place.
func (q *frameQueue) take(spare net.Buffers) net.Buffers {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.frames
	q.frames, q.bytes = spare, 0
	return batch
}
