// SPDX-License-Identifier: Apache-2.0

// Package mux carries many streams over one byte stream, with ports as vsock
// has them: it stands in for AF_VSOCK where a machine has only a virtio-serial
// port. Host and guest use the same code over hashicorp/yamux.
//
// Each stream starts with its port as four bytes, big-endian. A stream to a
// port that nobody listens on is closed at once, so that its opener's first
// read ends. Nothing is sent before a stream is opened: a machine may be saved
// and cloned while a session idles.
//
// Either side may be hostile to the other: streams, backlogs and windows are
// bounded, and a peer that breaks the protocol loses the session, nothing else.
//
// Locks: Session.mu and listener.mu are held for table look-ups only, never
// across I/O, and never both.
package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// maxStreams bounds the streams that a peer may have open at once.
	maxStreams = 1024
	// backlog bounds the streams of a port that wait to be accepted.
	backlog = 64
	// window is how much a stream may carry unread, in bytes.
	window = 1 << 20
	// prefaceLimit bounds how long a peer may take to name the port.
	prefaceLimit = 10 * time.Second
	// lingerLimit bounds how long a closed stream waits for its peer's close.
	lingerLimit = 30 * time.Second
)

// ErrPortTaken says that a port has a listener already.
var ErrPortTaken = errors.New("port has a listener already")

// Session is one end of a link. Its methods are safe for concurrent use.
type Session struct {
	y    *yamux.Session
	done chan struct{}
	wg   sync.WaitGroup

	mu sync.Mutex
	// listeners, open and closed are guarded by mu.
	listeners map[uint32]*listener
	open      int
	closed    bool
}

// Client starts the host's end over conn, which the session owns from then on.
func Client(conn io.ReadWriteCloser) (*Session, error) { return start(conn, yamux.Client) }

// Server starts the guest's end over conn, which the session owns from then on.
func Server(conn io.ReadWriteCloser) (*Session, error) { return start(conn, yamux.Server) }

func start(conn io.ReadWriteCloser, role func(io.ReadWriteCloser, *yamux.Config) (*yamux.Session, error)) (*Session, error) {
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false
	cfg.AcceptBacklog = maxStreams
	cfg.MaxStreamWindowSize = window
	cfg.StreamOpenTimeout = 0
	cfg.StreamCloseTimeout = lingerLimit
	cfg.LogOutput = io.Discard
	y, err := role(conn, cfg)
	if err != nil {
		return nil, fmt.Errorf("start link session: %w", err)
	}
	s := &Session{y: y, done: make(chan struct{}), listeners: map[uint32]*listener{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Dial opens a stream to a port of the other side. It does not wait for the
// other side: a port without a listener shows at the first read. ctx bounds
// the call.
func (s *Session) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st, err := s.y.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("open stream to port %d: %w", port, err)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], port)
	if deadline, ok := ctx.Deadline(); ok {
		err = st.SetWriteDeadline(deadline)
	}
	if err == nil {
		_, err = st.Write(head[:])
	}
	if err == nil {
		err = st.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open stream to port %d: %w", port, err), st.Close())
	}
	return &conn{Stream: st, s: s}, nil
}

// Listen takes streams that the other side opens to a port. The listener ends
// with the session.
func (s *Session) Listen(port uint32) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.listeners[port] != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, ErrPortTaken)
	}
	l := &listener{s: s, port: port, streams: make(chan net.Conn, backlog), done: make(chan struct{})}
	s.listeners[port] = l
	return l, nil
}

// Done is closed when the session has ended, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session with all its streams and listeners and closes the
// byte stream below. It returns when the session's goroutines are gone.
func (s *Session) Close() error {
	err := s.y.Close()
	s.wg.Wait()
	return err
}

// accept hands the other side's streams to their listeners until the session
// ends.
func (s *Session) accept() {
	defer s.end()
	for {
		st, err := s.y.AcceptStream()
		if err != nil {
			return
		}
		s.mu.Lock()
		full := s.open >= maxStreams
		if !full {
			s.open++
		}
		s.mu.Unlock()
		if full {
			// The stream's close timer releases it whatever the peer does.
			_ = st.Close()
			continue
		}
		s.wg.Go(func() { s.dispatch(&conn{Stream: st, s: s, counted: true}) })
	}
}

func (s *Session) end() {
	// A session that ended by its peer's doing still owns the byte stream.
	_ = s.y.Close()
	s.mu.Lock()
	s.closed = true
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	for _, l := range listeners {
		l.shut()
	}
	close(s.done)
}

// dispatch reads the port of a new stream and gives it to its listener.
func (s *Session) dispatch(c *conn) {
	var head [4]byte
	err := c.SetReadDeadline(time.Now().Add(prefaceLimit))
	if err == nil {
		_, err = io.ReadFull(c.Stream, head[:])
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close()
		return
	}
	s.mu.Lock()
	l := s.listeners[binary.BigEndian.Uint32(head[:])]
	s.mu.Unlock()
	if l == nil || !l.offer(c) {
		_ = c.Close()
	}
}

func (s *Session) release() {
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

// conn is a stream whose Close ends both directions.
type conn struct {
	*yamux.Stream
	s       *Session
	counted bool
	once    sync.Once
}

// CloseWrite ends this side's direction: the other side reads to the end, and
// this side goes on reading.
func (c *conn) CloseWrite() error { return c.Stream.Close() }

// Close ends the stream. What the other side still sends is thrown away, for
// lingerLimit at the most, so that it does not block on a reader that has gone.
func (c *conn) Close() error {
	err := c.Stream.Close()
	c.once.Do(func() { c.s.linger(c) })
	return err
}

// linger drains a closed stream in the background; when the session has ended,
// so has the stream.
func (s *Session) linger(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.wg.Go(func() {
		_ = c.Stream.SetReadDeadline(time.Now().Add(lingerLimit))
		_, _ = io.Copy(io.Discard, c.Stream)
		if c.counted {
			s.release()
		}
	})
}

type listener struct {
	s       *Session
	port    uint32
	streams chan net.Conn
	done    chan struct{}

	mu sync.Mutex
	// shutdown is guarded by mu: no stream is offered after it.
	shutdown bool
}

var _ net.Listener = (*listener)(nil)

// offer is false when the listener has ended or its backlog is full.
func (l *listener) offer(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutdown {
		return false
	}
	select {
	case l.streams <- c:
		return true
	default:
		return false
	}
}

// Accept waits for the next stream; it fails with net.ErrClosed after Close or
// the session's end.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.streams:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close stops listening; streams that wait to be accepted are closed.
func (l *listener) Close() error {
	l.s.mu.Lock()
	if l.s.listeners[l.port] == l {
		delete(l.s.listeners, l.port)
	}
	l.s.mu.Unlock()
	l.shut()
	return nil
}

func (l *listener) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.shutdown {
		l.shutdown = true
		close(l.done)
	}
	for {
		select {
		case c := <-l.streams:
			_ = c.Close()
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr { return addr(l.port) }

// addr is a port of a link.
type addr uint32

func (addr) Network() string  { return "mux" }
func (a addr) String() string { return fmt.Sprintf("port %d", uint32(a)) }
