// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// conn is a stream whose Close ends both directions.
type conn struct {
	*yamux.Stream
	s      *Session
	closed atomic.Bool
	// reading is held while the stream is read.
	reading sync.Mutex
}

// Read reads what the other side sent; Close ends it with net.ErrClosed.
func (c *conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Stream.Read(b)
	if err != nil && c.closed.Load() {
		err = net.ErrClosed
	}
	return n, err
}

// Write sends b in parts, so that streams take turns.
func (c *conn) Write(b []byte) (int, error) {
	sent := 0
	for {
		part := b[sent:min(len(b), sent+Chunk)]
		n, err := c.Stream.Write(part)
		sent += n
		if errors.Is(err, yamux.ErrStreamClosed) {
			err = net.ErrClosed
		}
		if err != nil || sent == len(b) {
			return sent, err
		}
	}
}

// CloseWrite ends this side's direction: the other side reads to the end, and
// this side goes on reading.
func (c *conn) CloseWrite() error { return c.Stream.Close() }

// Close ends the stream in both directions. It does not wait for the other
// side to read what was written; that arrives nevertheless.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.Stream.Close()
	// Wakes a blocked Read, which then sees closed.
	_ = c.Stream.SetReadDeadline(time.Unix(1, 0))
	select {
	case c.s.drain <- struct{}{}:
		if !c.s.spawn(c.linger) {
			<-c.s.drain // the session has ended, and with it the stream
		}
	default:
	}
	return err
}

// linger throws away what the other side sends until it ends the stream.
func (c *conn) linger() {
	c.reading.Lock()
	defer c.reading.Unlock()
	_ = c.Stream.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.Stream)
	c.Stream.Shrink()
	<-c.s.drain
}

// yamux writes a frame's header and body apart. On a virtio-serial port every
// write is a buffer of its own that the guest waits for, so that joining them
// halves the number of round trips.
const (
	headerSize = 12
	typeData   = 0
)

// frameConn joins the header of a data frame with its body. Only yamux's one
// sending goroutine writes to it.
type frameConn struct {
	io.ReadWriteCloser
	held  []byte
	frame []byte
}

func (f *frameConn) Write(b []byte) (int, error) {
	if len(f.held) == 0 {
		if isDataHeader(b) {
			f.held = append(f.held, b...)
			return len(b), nil
		}
		return f.ReadWriteCloser.Write(b)
	}
	f.frame = append(append(f.frame[:0], f.held...), b...)
	f.held = f.held[:0]
	if _, err := f.ReadWriteCloser.Write(f.frame); err != nil {
		return 0, err
	}
	return len(b), nil
}

// isDataHeader is true for the header of a frame that a body follows: version,
// type, flags (2), stream (4), length (4).
func isDataHeader(b []byte) bool {
	return len(b) == headerSize && b[0] == 0 && b[1] == typeData && b[8]|b[9]|b[10]|b[11] != 0
}

// firstBuffer is what a copy of a stream begins with.
const firstBuffer = 16 << 10

// Buffer returns what to read into next: buf, or one of twice its size, up to
// Chunk, if the read before filled it. Most streams carry little, and none is to
// hold memory that it has no use for. The first call gives nil and 0.
func Buffer(buf []byte, filled int) []byte {
	switch {
	case len(buf) == 0:
		return make([]byte, firstBuffer)
	case filled < len(buf) || len(buf) == Chunk:
		return buf
	}
	return make([]byte, min(2*len(buf), Chunk))
}
