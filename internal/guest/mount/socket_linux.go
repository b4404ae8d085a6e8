// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/mux"
)

const (
	// maxSocketConns bounds the connections to one socket.
	maxSocketConns = 128
	// socketWait bounds the opening of a connection's stream.
	socketWait = 15 * time.Second
)

// socket is a Unix socket whose connections the host carries on.
type socket struct {
	name string
	l    net.Listener
	dial func(ctx context.Context, name string) (net.Conn, error)
	log  func(error)

	mu sync.Mutex
	// conns are those that are open, nil once the socket is closed. Guarded
	// by mu.
	conns map[net.Conn]bool
}

// mountSocket makes a socket that root and its group may connect to, as Docker's
// is. The returned function ends it with its connections.
func (m *Manager) mountSocket(target string, s *guestapi.Socket, opts options) (func(), error) {
	if m.cfg.DialSocket == nil {
		return nil, fmt.Errorf("this guest has no link for sockets: %w", errdefs.ErrNotImplemented)
	}
	if s.Name == "" || strings.ContainsFunc(s.Name, notNameRune) {
		return nil, fmt.Errorf("socket name %q: %w", s.Name, errdefs.ErrInvalidArgument)
	}
	if len(opts.data) > 0 || opts.flags != 0 || opts.propagation != 0 {
		return nil, fmt.Errorf("a socket takes no options: %w", errdefs.ErrInvalidArgument)
	}
	dir, err := makeDir(path.Dir(target))
	if err != nil {
		return nil, err
	}
	defer dir.close()
	at := dir.path() + "/" + path.Base(target)
	l, err := net.Listen("unix", at)
	if err != nil {
		return nil, fmt.Errorf("socket %q: %w", s.Name, err)
	}
	// The directory's descriptor, which names the file, is not kept.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(at, 0o660); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(target))
	}
	sock := &socket{name: s.Name, l: l, dial: m.cfg.DialSocket, conns: map[net.Conn]bool{}}
	sock.log = func(err error) { m.cfg.Log.Warn("connection to a socket not carried on", "err", err) }
	m.relays.Go(func() { sock.serve() })
	return func() {
		sock.close()
		os.Remove(target)
	}, nil
}

// serve takes connections until the socket is closed, and waits for them.
func (s *socket) serve() {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := s.l.Accept()
		if err != nil {
			return
		}
		if !s.keep(conn) {
			conn.Close()
			continue
		}
		open.Go(func() {
			defer s.drop(conn)
			s.carry(conn)
		})
	}
}

func (s *socket) carry(conn net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), socketWait)
	defer cancel()
	stream, err := s.dial(ctx, s.name)
	if err != nil {
		s.log(err)
		return
	}
	if !s.keep(stream) {
		stream.Close()
		return
	}
	defer s.drop(stream)
	mux.Join(conn, stream)
}

// keep has a connection closed with the socket; false where there is no room, or
// no socket any more.
func (s *socket) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || len(s.conns) >= 2*maxSocketConns {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *socket) drop(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *socket) close() {
	s.l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}
