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
// Streams have CloseWrite besides Close. Bytes written before either reach the
// other side however slowly it reads. After Close, what the other side still
// sends is thrown away, so that it never blocks on a reader that has gone.
//
// Either side may be hostile to the other: streams, backlogs and windows are
// bounded, and a peer that breaks the protocol or never ends its streams loses
// the session, nothing else.
//
// Locks: Session.mu and listener.mu are held for table look-ups only, never
// across I/O, and never both; conn.reading is held while a stream is read.
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
	// maxStreams is how many streams there may be before those that the peer
	// opens are refused.
	maxStreams = 512
	// maxAll bounds all streams, those included that this side has closed and
	// the peer has not; a peer that lets them pile up loses the session.
	maxAll = 1024
	// maxDrains bounds the closed streams that are drained at once. Only a
	// peer that does not end its streams reaches it, and then blocks itself.
	// yamux's readers spin while a session ends, hence few.
	maxDrains = 64
	// maxDials bounds the streams that are being opened at once.
	maxDials = 64
	// backlog bounds the streams of a port that wait to be accepted.
	backlog = 64
	// window is how much a stream may carry unread, in bytes: whole chunks.
	window = 4 * Chunk
	// prefaceLimit bounds how long a peer may take to name the port.
	prefaceLimit = 10 * time.Second
	// writeLimit bounds how long the peer may read nothing at all.
	writeLimit = 2 * time.Minute
)

// Chunk is the most that one stream sends before others get a turn. With its
// header it fills whole buffers of a virtio-serial port, which hold 32 KiB: each
// buffer, however small, takes the guest and the host through their event loops
// once, and that costs far more than its bytes.
const Chunk = 256<<10 - headerSize

// ErrPortTaken says that a port has a listener already.
var ErrPortTaken = errors.New("port has a listener already")

// Session is one end of a link. Its methods are safe for concurrent use.
type Session struct {
	y     *yamux.Session
	done  chan struct{}
	dials chan struct{}
	drain chan struct{}
	wg    sync.WaitGroup

	mu sync.Mutex
	// listeners and closed are guarded by mu.
	listeners map[uint32]*listener
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
	// A reset would take away what a slow reader has yet to read.
	cfg.StreamCloseTimeout = 0
	cfg.ConnectionWriteTimeout = writeLimit
	cfg.LogOutput = io.Discard
	y, err := role(&frameConn{ReadWriteCloser: conn}, cfg)
	if err != nil {
		return nil, fmt.Errorf("start link session: %w", err)
	}
	s := &Session{y: y, done: make(chan struct{}), dials: make(chan struct{}, maxDials), drain: make(chan struct{}, maxDrains), listeners: map[uint32]*listener{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Dial opens a stream to a port of the other side. It does not wait for the
// other side: a port without a listener shows at the first read. ctx bounds
// the call.
func (s *Session) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	c, err := s.dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("open stream to port %d: %w", port, err)
	}
	return c, nil
}

func (s *Session) dial(ctx context.Context, port uint32) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s.dials <- struct{}{}:
	case <-s.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		c   *conn
		err error
	}
	opened := make(chan result, 1)
	if !s.spawn(func() {
		c, err := s.open(port)
		<-s.dials
		opened <- result{c, err}
	}) {
		<-s.dials
		return nil, net.ErrClosed
	}
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, r.err
		}
		return r.c, nil
	case <-ctx.Done():
		// The stream may open yet; then it is closed.
		s.spawn(func() {
			if r := <-opened; r.err == nil {
				_ = r.c.Close()
			}
		})
		return nil, ctx.Err()
	}
}

// open opens a stream and names its port; it blocks while the peer reads
// nothing, at the most until the session ends.
func (s *Session) open(port uint32) (*conn, error) {
	if s.y.NumStreams() >= maxAll {
		_ = s.y.Close()
		return nil, errors.New("the other side does not end its streams")
	}
	st, err := s.y.OpenStream()
	if err != nil {
		return nil, err
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], port)
	if _, err := st.Write(head[:]); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &conn{Stream: st, s: s}, nil
}

// spawn runs f in a goroutine that Close waits for; it is false, and f does
// not run, when the session has ended.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
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
		switch n := s.y.NumStreams(); {
		case n > maxAll:
			return
		case n > maxStreams:
			_ = st.Close()
		default:
			c := &conn{Stream: st, s: s}
			s.spawn(func() { s.dispatch(c) })
		}
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
