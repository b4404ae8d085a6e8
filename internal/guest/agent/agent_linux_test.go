// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"byre.dev/byre/internal/guestapi"
)

func newSession(t *testing.T) *session {
	t.Helper()
	host, guest := net.Pipe()
	t.Cleanup(func() {
		host.Close()
		guest.Close()
	})
	a := &Agent{cfg: Config{Log: slog.New(slog.DiscardHandler)}, secret: make([]byte, guestapi.SecretSize)}
	return &session{Agent: a, conn: guest}
}

func TestGatesOpenOneAfterTheOther(t *testing.T) {
	s := newSession(t)
	check := func(state string, open ...string) {
		t.Helper()
		for _, method := range []string{"Hello", "Renew", "PowerOff", "Clock", "Mount", "Memory", "Trim", ""} {
			err := s.allowed(method)
			want := false
			for _, o := range open {
				want = want || o == method
			}
			if (err == nil) != want || err != nil && !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s: %q: %v", state, method, err)
			}
		}
	}
	check("before Hello", "Hello")
	s.greeted.Store(true)
	check("before Renew", "Hello", "Renew", "PowerOff")
	s.adopt(bytes.Repeat([]byte{7}, guestapi.SecretSize))
	check("renewed", "Hello", "Renew", "PowerOff", "Clock", "Mount", "Memory", "Trim", "")
	if secret, renewed := s.identity(); !renewed || secret[0] != 7 {
		t.Errorf("secret %v, renewed %v", secret, renewed)
	}
}

func TestATaskCallIsNotLetThroughByItsName(t *testing.T) {
	s := newSession(t)
	called := false
	method := func(context.Context, func(any) error) (any, error) { called = true; return nil, nil }
	// The Task service has no Hello today: a gate that goes by the last word
	// alone would open for one that comes.
	info := &ttrpc.UnaryServerInfo{FullMethod: "/containerd.task.v3.Task/Hello"}
	if _, err := s.intercept(t.Context(), nil, info, method); status.Code(err) != codes.FailedPrecondition || called {
		t.Errorf("err = %v, called %v", err, called)
	}
	info.FullMethod = "/byre.guest.v1.Guest/Hello"
	if _, err := s.intercept(t.Context(), nil, info, method); err != nil || !called {
		t.Errorf("err = %v, called %v", err, called)
	}
}

func TestAPanicEndsItsConnectionAlone(t *testing.T) {
	s := newSession(t)
	info := &ttrpc.UnaryServerInfo{FullMethod: "/byre.guest.v1.Guest/Hello"}
	_, err := s.intercept(t.Context(), nil, info, func(context.Context, func(any) error) (any, error) { panic("a bug") })
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "a bug") {
		t.Errorf("err = %v", err)
	}
	if _, err := s.conn.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

func TestErrorsKeepTheirKindOnTheWire(t *testing.T) {
	for kind, code := range map[error]codes.Code{
		errdefs.ErrNotFound: codes.NotFound, errdefs.ErrInvalidArgument: codes.InvalidArgument,
		errdefs.ErrAlreadyExists: codes.AlreadyExists, errdefs.ErrFailedPrecondition: codes.FailedPrecondition,
		errdefs.ErrNotImplemented: codes.Unimplemented, errdefs.ErrUnavailable: codes.Unavailable,
		context.Canceled: codes.Canceled, context.DeadlineExceeded: codes.DeadlineExceeded, errors.New("other"): codes.Unknown,
	} {
		if err := toStatus(fmt.Errorf("do it: %w", kind)); status.Code(err) != code || !strings.Contains(err.Error(), "do it") {
			t.Errorf("%v: %v, want %v", kind, err, code)
		}
	}
	given := status.Error(codes.Aborted, "as it is")
	if toStatus(given) != given || toStatus(nil) != nil {
		t.Error("what has its code, or is no error, is changed")
	}
}

func TestRenewalsThatRenewNothingAreRefused(t *testing.T) {
	good := func() *guestapi.RenewRequest {
		return &guestapi.RenewRequest{
			Seed: make([]byte, 64), Secret: bytes.Repeat([]byte{1}, guestapi.SecretSize), Nonce: make([]byte, 32),
			WallTimeNs: 1, Hostname: "web",
		}
	}
	if err := checkRenewal(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*guestapi.RenewRequest){
		"short seed":       func(r *guestapi.RenewRequest) { r.Seed = make([]byte, 31) },
		"long seed":        func(r *guestapi.RenewRequest) { r.Seed = make([]byte, 513) },
		"secret of zeros":  func(r *guestapi.RenewRequest) { clear(r.Secret) },
		"short secret":     func(r *guestapi.RenewRequest) { r.Secret = r.Secret[1:] },
		"no nonce":         func(r *guestapi.RenewRequest) { r.Nonce = nil },
		"no time":          func(r *guestapi.RenewRequest) { r.WallTimeNs = 0 },
		"no host name":     func(r *guestapi.RenewRequest) { r.Hostname = "" },
		"long host name":   func(r *guestapi.RenewRequest) { r.Hostname = strings.Repeat("x", 65) },
		"long domain name": func(r *guestapi.RenewRequest) { r.Domainname = strings.Repeat("x", 65) },
	} {
		r := good()
		spoil(r)
		if err := checkRenewal(r); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAConnectionsListenerEndsWithIt(t *testing.T) {
	host, guest := net.Pipe()
	defer host.Close()
	l := newOneListener(guest)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { // received below
		_, err := l.Accept()
		ended <- err
	}()
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Accept: %v", err)
	}
}

func TestTheReserveFollowsTheMachine(t *testing.T) {
	for total, want := range map[uint64]uint64{64 << 20: 32 << 20, 512 << 20: 32 << 20, 1 << 30: 64 << 20, 16 << 30: 1 << 30} {
		if got := reserve(total); got != want {
			t.Errorf("of %d MiB %d MiB are kept, want %d", total>>20, got>>20, want>>20)
		}
	}
}
