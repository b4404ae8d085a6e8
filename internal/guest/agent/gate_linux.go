// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"byre.dev/byre/internal/guest/taskapi"
	"byre.dev/byre/internal/guestapi"
)

// session is one connection of the host's to PortAgent.
type session struct {
	*Agent
	conn net.Conn
	// greeted is true once Hello has agreed on the version.
	greeted atomic.Bool
}

// serveAgent serves ttrpc on one connection, which has a server of its own
// because the first gate is the connection's.
func (a *Agent) serveAgent(ctx context.Context, conn net.Conn) {
	if _, ok := a.admit(conn, guestapi.PortAgent); !ok {
		return
	}
	s := &session{Agent: a, conn: conn}
	srv, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(s.intercept))
	if err != nil {
		a.cfg.Log.Error("agent connection not served", "err", err)
		conn.Close()
		return
	}
	guestapi.RegisterGuestService(srv, s)
	taskapi.RegisterTaskService(srv, a.tasks)
	l := newOneListener(conn)
	defer srv.Close()
	// Serve returns when the connection has ended and the listener with it.
	if err := srv.Serve(ctx, l); err != nil && !errors.Is(err, net.ErrClosed) {
		a.cfg.Log.Debug("agent connection ended", "err", err)
	}
}

// intercept stands before every unary call.
func (s *session) intercept(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (resp any, err error) {
	name := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	if !strings.Contains(info.FullMethod, "byre.guest.v1.Guest/") {
		name = "" // a Task method of the same name has no exemption
	}
	if err := s.allowed(name); err != nil {
		return nil, toStatus(err)
	}
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("handler panicked", "op", info.FullMethod, "err", fmt.Sprint(r), "stack", string(debug.Stack()))
			resp, err = nil, status.Error(codes.Internal, "the guest agent failed in "+info.FullMethod)
			s.conn.Close()
		}
	}()
	resp, err = method(ctx, unmarshal)
	return resp, toStatus(err)
}

// allowed tells whether the gates let a call of the Guest service pass.
func (s *session) allowed(method string) error {
	if method == "Hello" {
		return nil
	}
	if !s.greeted.Load() {
		return fmt.Errorf("the host has not said Hello: %w", errdefs.ErrFailedPrecondition)
	}
	if _, renewed := s.identity(); !renewed && method != "Renew" && method != "PowerOff" {
		return fmt.Errorf("the machine has not been renewed: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// toStatus gives an error the code that errdefs' kinds have on the wire; the
// host turns it back with errgrpc.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Unknown
	for _, k := range []struct {
		is   func(error) bool
		code codes.Code
	}{
		{errdefs.IsNotFound, codes.NotFound},
		{errdefs.IsInvalidArgument, codes.InvalidArgument},
		{errdefs.IsAlreadyExists, codes.AlreadyExists},
		{errdefs.IsFailedPrecondition, codes.FailedPrecondition},
		{errdefs.IsNotImplemented, codes.Unimplemented},
		{errdefs.IsUnavailable, codes.Unavailable},
		{errdefs.IsCanceled, codes.Canceled},
		{errdefs.IsDeadlineExceeded, codes.DeadlineExceeded},
	} {
		if k.is(err) {
			code = k.code
			break
		}
	}
	return status.Error(code, err.Error())
}

// oneListener yields one connection, and ends when that connection is closed.
type oneListener struct {
	conn  chan net.Conn
	ended chan struct{}
	addr  net.Addr
}

func newOneListener(conn net.Conn) *oneListener {
	l := &oneListener{conn: make(chan net.Conn, 1), ended: make(chan struct{}), addr: conn.LocalAddr()}
	l.conn <- &notifyConn{Conn: conn, ended: l.ended}
	return l
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return l.addr }

// notifyConn tells its listener when it is closed.
type notifyConn struct {
	net.Conn
	ended chan struct{}
	done  atomic.Bool
}

func (c *notifyConn) Close() error {
	if !c.done.Swap(true) {
		close(c.ended)
	}
	return c.Conn.Close()
}
