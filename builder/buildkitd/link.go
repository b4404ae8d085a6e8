// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Ports of the link, as the daemon's package builder has them. A stream begins
// with its port in four bytes, big-endian, as in the daemon's package mux.
const (
	// portControl is the control API; the daemon dials it.
	portControl = 1
	// portAlive is held by the daemon: it is greeted with one byte once builds
	// can begin, and sends one now and then.
	portAlive = 2
	// portImages is the daemon's image store over HTTP; dialled from here.
	portImages = 3
)

// links takes the daemon's link and is the listener of the control API. There
// is one link at a time: a daemon that comes replaces the one that was there.
type links struct {
	alone time.Duration

	conns chan net.Conn
	done  chan struct{}
	timer *time.Timer
	gone  chan struct{}

	mu sync.Mutex
	// session, listener and closed are guarded by mu.
	session  *yamux.Session
	listener net.Listener
	closed   bool
}

var _ net.Listener = (*links)(nil)

func newLinks(alone time.Duration) *links {
	l := &links{alone: alone, conns: make(chan net.Conn), done: make(chan struct{}), gone: make(chan struct{})}
	l.timer = time.AfterFunc(alone, func() { close(l.gone) })
	return l
}

// abandoned is closed when no daemon has shown itself for too long.
func (l *links) abandoned() <-chan struct{} { return l.gone }

// listen takes links until Close.
func (l *links) listen(socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	sock, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.listener = sock
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return sock.Close()
	}
	for {
		conn, err := sock.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.replace(conn); err != nil {
			return err
		}
	}
}

func (l *links) replace(conn net.Conn) error {
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false
	cfg.MaxStreamWindowSize = 1 << 20
	cfg.ConnectionWriteTimeout = 2 * time.Minute
	cfg.LogOutput = io.Discard
	s, err := yamux.Server(conn, cfg)
	if err != nil {
		return fmt.Errorf("start link: %w", err)
	}
	l.mu.Lock()
	old := l.session
	l.session = s
	l.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	go l.accept(s) // ends with the session
	return nil
}

func (l *links) accept(s *yamux.Session) {
	for {
		st, err := s.AcceptStream()
		if err != nil {
			return
		}
		go l.dispatch(st) // ends with the session
	}
}

func (l *links) dispatch(st *yamux.Stream) {
	var head [4]byte
	if _, err := io.ReadFull(st, head[:]); err != nil {
		_ = st.Close()
		return
	}
	switch binary.BigEndian.Uint32(head[:]) {
	case portControl:
		select {
		case l.conns <- st:
			return
		case <-l.done:
		}
	case portAlive:
		l.alive(st)
	}
	_ = st.Close()
}

// alive puts off the end with each byte of the daemon's.
func (l *links) alive(st *yamux.Stream) {
	if _, err := st.Write([]byte{portAlive}); err != nil {
		return
	}
	var b [1]byte
	for {
		l.timer.Reset(l.alone)
		if _, err := st.Read(b[:]); err != nil {
			return
		}
	}
}

// dialImages opens a stream to the daemon's image store.
func (l *links) dialImages(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil {
		return nil, errors.New("no daemon is connected")
	}
	st, err := s.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("reach the daemon's images: %w", err)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], portImages)
	if _, err := st.Write(head[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("reach the daemon's images: %w", err), st.Close())
	}
	return st, ctx.Err()
}

// Accept implements net.Listener for the control API.
func (l *links) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the link and takes no more. It is idempotent.
func (l *links) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	l.timer.Stop()
	var errs []error
	if l.listener != nil {
		errs = append(errs, l.listener.Close())
	}
	if l.session != nil {
		errs = append(errs, l.session.Close())
	}
	return errors.Join(errs...)
}

// Addr implements net.Listener.
func (l *links) Addr() net.Addr { return &net.UnixAddr{Name: "link", Net: "unix"} }
