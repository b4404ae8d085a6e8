// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
)

// Dial serves srv on a Unix socket pair for the length of the test and
// returns a client of it.
func Dial(tb testing.TB, srv *p9srv.Server) *p9client.Client {
	tb.Helper()
	c, err := p9client.New(Pipe(tb, srv), 1<<20)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// Attach serves srv and attaches to its root.
func Attach(tb testing.TB, srv *p9srv.Server, uid uint32) *p9client.FID {
	tb.Helper()
	root, err := Dial(tb, srv).Attach("", uid)
	if err != nil {
		tb.Fatal(err)
	}
	return root
}

// Pipe serves srv on one end of a Unix socket and returns the other. The test
// fails if serving ends in an error, and waits for it to end.
func Pipe(tb testing.TB, srv *p9srv.Server) net.Conn {
	tb.Helper()
	here, there := SocketPair(tb)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tb.Context(), there) }()
	tb.Cleanup(func() {
		here.Close()
		if err := <-done; err != nil && tb.Context().Err() == nil {
			tb.Errorf("serve: %v", err)
		}
	})
	return here
}

// SocketPair returns two ends of a Unix socket.
func SocketPair(tb testing.TB) (net.Conn, net.Conn) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "p9")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	return here, there
}
