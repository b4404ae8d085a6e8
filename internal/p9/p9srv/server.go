// SPDX-License-Identifier: Apache-2.0

// Package p9srv serves a tree of files over a connection with 9P2000.L: it
// keeps the fids, tags and locks and turns requests into calls of [Node] and
// [File]. It knows nothing of where the files are.
//
// The client is hostile. Every number it sends is bounded before it costs
// memory; a panic in a handler ends the connection and nothing else.
//
// One goroutine per connection reads requests and answers the quick ones
// itself, collecting the replies until it would have to wait for more input.
// Requests that may wait go to at most [Server.Workers] workers. Lock order:
// fidTable.mu, then fid.mu, then out.mu; those of locks ([Locks]) are taken with
// none of them held, but that a request enters the table of tags while the
// table of its file is locked. None of the first three is held while a Node or
// File is called.
package p9srv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Defaults of a [Server].
const (
	DefaultMsize   = 1 << 20
	DefaultWorkers = 16
	DefaultMaxFIDs = 1 << 20
)

// sendBuffer is asked of the system for what is sent and not yet read.
const sendBuffer = 2 << 20

// Attach is what a Tattach asks for.
type Attach struct {
	// Uname and Aname are what the client says, to be believed in nothing.
	Uname, Aname string
	// UID is the numeric user, p9.NoUname if the client names none.
	UID uint32
}

// Server serves one tree. It must not be changed once Serve was called; Serve
// may be called for several connections at a time.
type Server struct {
	// Root is the tree's root. The caller keeps its reference.
	Root Node
	// Attach chooses the node for a Tattach; nil means Root for everybody.
	Attach func(Attach) (Node, linux.Errno)
	// Msize bounds the size of a frame; 0 means DefaultMsize.
	Msize uint32
	// Workers bounds the requests of one connection that run beside its
	// reader; 0 means DefaultWorkers.
	Workers int
	// MaxFIDs bounds the fids of one connection; 0 means DefaultMaxFIDs.
	MaxFIDs int
	// Locks is the table that locks are kept in, shared by all servers whose
	// trees may hold the same files; nil means one for this call of Serve.
	Locks *Locks
	// Secret, if not empty, must be written to the afid of a Tauth before an
	// attach is granted. Linux's client cannot do that: leave it empty where
	// the stream itself has been authenticated.
	Secret []byte
	// Requests, if not nil, counts the requests that have arrived.
	Requests *atomic.Uint64

	pools bufferPools
}

// Serve answers requests on conn until its end, a protocol violation or the
// end of ctx, and closes conn. When it returns all fids are clunked, all
// locks of the connection are dropped and its goroutines are gone. The end of
// the stream is no error.
func (s *Server) Serve(ctx context.Context, conn io.ReadWriteCloser) error {
	if b, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		// With room for a large reply the client reads while the next is
		// written. Less is a matter of speed alone.
		_ = b.SetWriteBuffer(sendBuffer)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c := newConn(s, conn)
	err := c.serve()
	stop()
	conn.Close()
	c.finish()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve 9P: %w", err)
	}
	return nil
}

func (s *Server) msize() uint32 {
	m := s.Msize
	if m == 0 {
		m = DefaultMsize
	}
	return min(max(m, p9.MinMsize), p9.MaxMsize)
}

func (s *Server) workers() int {
	if s.Workers <= 0 {
		return DefaultWorkers
	}
	return s.Workers
}

func (s *Server) maxFIDs() int {
	if s.MaxFIDs <= 0 {
		return DefaultMaxFIDs
	}
	return s.MaxFIDs
}

func (s *Server) attach(a Attach) (Node, linux.Errno) {
	if s.Attach != nil {
		return s.Attach(a)
	}
	return s.Root.Clone(), 0
}
