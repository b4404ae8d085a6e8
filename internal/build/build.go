// SPDX-License-Identifier: Apache-2.0

// Package build serves image builds: it carries clients' requests to a BuildKit
// in a machine of its own, and what is built into the image store.
//
// A client speaks two things: BuildKit's control API (ServeControl), which is
// carried through but for what concerns the store, and a session (ServeSession),
// on which the client is the server: the builder asks it for files, secrets and
// credentials. Each session has a twin towards the builder; calls on the twin go
// to the client, except those of the content store that images are exported to.
//
// Neither side is trusted: sessions, messages and headers are bounded, and of
// the image store a builder sees an [image.Ingest].
package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"byre.dev/byre/internal/engine/image"
)

// Builder is where the builds run.
type Builder interface {
	// Dial returns a connection to BuildKit's control API, and starts the
	// builder when none runs. The caller closes it.
	Dial(ctx context.Context) (net.Conn, error)
	// Running tells whether a builder runs now.
	Running() bool
	// DiskUsage is what the cache takes on the host, in bytes.
	DiskUsage() int64
}

// Config is what a Service works with.
type Config struct {
	// Builder runs the builds.
	Builder Builder
	// Images receives what is built.
	Images *image.Store
	// Log receives what could not be returned; nil discards it.
	Log *slog.Logger
}

// Service serves builds. It is safe for concurrent use.
type Service struct {
	cfg Config
	log *slog.Logger
	// life ends with Close; work counts what is served.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	// mu guards what follows, and the end of life.
	mu       sync.Mutex
	sessions map[string]*session
	// arrived is closed, and replaced, when a session comes.
	arrived chan struct{}
	// jobs are the builds that can be canceled, by the client's name for them.
	jobs map[string]*job
}

// New returns a service; nothing is started.
func New(cfg Config) *Service {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, log: log, sessions: map[string]*session{}, arrived: make(chan struct{}), jobs: map[string]*job{}}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Close ends all builds and returns when nothing of them runs. Calls that come
// later fail.
func (s *Service) Close() error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

// enter counts a call, and lets its context end with the service. Leave is
// called at its end.
func (s *Service) enter(ctx context.Context) (inner context.Context, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, nil, errdefs.ErrUnavailable.WithMessage("the daemon is stopping")
	}
	s.work.Add(1)
	inner, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.life, cancel)
	return inner, func() {
		stop()
		cancel()
		s.work.Done()
	}, nil
}

// maxMessage bounds a gRPC message; it is what BuildKit's own parts take.
const maxMessage = 16 << 20

// builder connects to the builder, which is started if none runs.
func (s *Service) builder(ctx context.Context) (*grpc.ClientConn, error) {
	conn, err := s.cfg.Builder.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the builder: %w", err)
	}
	return clientOver(conn)
}

// clientOver is a gRPC client on a connection, which it owns. When the
// connection breaks, calls fail; it is not made anew.
func clientOver(conn net.Conn) (*grpc.ClientConn, error) {
	var used atomic.Bool
	dial := func(context.Context, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errors.New("the connection has ended")
		}
		return conn, nil
	}
	cc, err := grpc.NewClient("passthrough:///byre",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return cc, nil
}

// serveOver serves gRPC on one connection until it, or ctx, ends. It closes the
// connection and returns when no call runs.
func serveOver(ctx context.Context, srv *grpc.Server, conn net.Conn) {
	l := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{}), addr: conn.LocalAddr()}
	l.conn <- watch(conn, func() { _ = l.Close() })
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	_ = srv.Serve(l) // ends with the listener
	srv.Stop()
}

// oneConn is a listener of one connection; it ends with it.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

// Accept returns the connection, and then waits for the end.
func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is the connection's.
func (l *oneConn) Addr() net.Addr { return l.addr }

// watched tells of its connection's end.
type watched struct {
	net.Conn
	once sync.Once
	gone func()
}

func watch(conn net.Conn, gone func()) *watched { return &watched{Conn: conn, gone: gone} }

// Read notices the end.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.once.Do(w.gone)
	}
	return n, err
}

// Close ends the connection.
func (w *watched) Close() error {
	w.once.Do(w.gone)
	return w.Conn.Close()
}
