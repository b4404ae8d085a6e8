// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"byre.dev/byre/internal/mux"
)

// Output relays what a process writes to a pipe or terminal to a stream, to the
// last byte. When the host gives the stream up, the rest is read and dropped so
// that the process is not stuck on a full pipe.
type Output struct {
	src  *os.File
	dst  net.Conn
	done chan struct{}
	// moved counts the reads that returned bytes.
	moved atomic.Uint64
	// writing is true while bytes wait for the host to take them.
	writing atomic.Bool
}

// StartOutput relays src to dst until src ends; it owns both.
func StartOutput(src *os.File, dst net.Conn) *Output {
	o := &Output{src: src, dst: dst, done: make(chan struct{})}
	go o.run() // Drain and Close wait for it
	return o
}

func (o *Output) run() {
	defer close(o.done)
	defer o.dst.Close()
	defer o.src.Close()
	var buf []byte
	var n int
	var err error
	var refused bool
	for {
		buf = mux.Buffer(buf, n)
		n, err = o.src.Read(buf)
		if n > 0 {
			o.moved.Add(1)
		}
		if n > 0 && !refused {
			o.writing.Store(true)
			_, werr := o.dst.Write(buf[:n])
			o.writing.Store(false)
			refused = werr != nil
		}
		if err != nil { // EOF of a pipe, EIO of a terminal, closed by Drain
			return
		}
	}
}

// Drain waits until the source has ended and every byte was handed over. A
// source that stays open, because a process that outlived its parent holds it,
// is given up when it has been silent for idle. Bytes that the host is slow to
// take are waited for until ctx ends.
func (o *Output) Drain(ctx context.Context, idle time.Duration) error {
	tick := time.NewTicker(idle)
	defer tick.Stop()
	moved := o.moved.Load()
	for {
		select {
		case <-o.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if now := o.moved.Load(); now != moved || o.writing.Load() {
			moved = now
			continue
		}
		o.src.Close()
	}
}

// Close ends the relay at once; bytes on their way are lost.
func (o *Output) Close() error {
	o.src.Close()
	o.dst.Close()
	<-o.done
	return nil
}

// closeGrace is how long a stream may stay silent after CloseIO before its end
// is taken for granted. A host that ends the stream before it calls CloseIO
// never meets it.
const closeGrace = time.Second

// Input relays a stream to a process's standard input. The stream's end does
// not end the input: the host may open the name again. Only CloseInput, which
// takes effect behind everything the stream still carries, or Close end it.
type Input struct {
	hub  *Hub
	name string
	dst  io.WriteCloser

	cancel  context.CancelFunc
	done    chan struct{}
	closing chan struct{}

	mu sync.Mutex
	// conn is the stream in use. Guarded by mu.
	conn net.Conn
	once sync.Once
}

// StartInput relays first, and later streams of that name from hub, to dst. It
// owns first and dst.
func StartInput(hub *Hub, name string, first net.Conn, dst io.WriteCloser) *Input {
	ctx, cancel := context.WithCancel(context.Background())
	in := &Input{
		hub: hub, name: name, dst: dst, conn: first, cancel: cancel,
		done: make(chan struct{}), closing: make(chan struct{}),
	}
	go in.run(ctx, first) // Close waits for it
	return in
}

func (in *Input) run(ctx context.Context, conn net.Conn) {
	defer close(in.done)
	defer in.dst.Close()
	for {
		err := in.relay(conn)
		conn.Close()
		if err != nil || in.isClosing() {
			return
		}
		if conn = in.next(ctx); conn == nil {
			return
		}
	}
}

// next waits for another stream of the name; nil means the input is to end.
func (in *Input) next(ctx context.Context) net.Conn {
	conn, err := in.hub.Await(ctx, in.name, in.closing)
	if err != nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.conn = conn
	if ctx.Err() != nil {
		conn.Close()
		return nil
	}
	if in.isClosing() {
		conn.SetReadDeadline(time.Now().Add(closeGrace))
	}
	return conn
}

// relay copies one stream; it returns nil at the stream's end and the error
// when the process no longer reads.
func (in *Input) relay(conn net.Conn) error {
	var buf []byte
	var n int
	var err error
	for {
		buf = mux.Buffer(buf, n)
		n, err = conn.Read(buf)
		if n > 0 {
			if _, werr := in.dst.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			return nil
		}
		if in.isClosing() {
			conn.SetReadDeadline(time.Now().Add(closeGrace))
		}
	}
}

func (in *Input) isClosing() bool {
	select {
	case <-in.closing:
		return true
	default:
		return false
	}
}

// CloseInput ends the process's input behind everything that the stream
// carries. It does not wait.
func (in *Input) CloseInput() {
	in.once.Do(func() {
		close(in.closing)
		in.mu.Lock()
		defer in.mu.Unlock()
		in.conn.SetReadDeadline(time.Now().Add(closeGrace))
	})
}

// Close ends the relay at once.
func (in *Input) Close() error {
	in.cancel()
	in.mu.Lock()
	in.conn.Close()
	in.mu.Unlock()
	err := in.dst.Close()
	<-in.done
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
