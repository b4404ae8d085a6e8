// SPDX-License-Identifier: Apache-2.0

package mux_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/mux"
)

// unixPair returns two ends of a connection that can be closed by halves.
func unixPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialed.(*net.UnixConn), accepted.(*net.UnixConn)
}

func TestJoinPassesTheEndOfOneDirectionOn(t *testing.T) {
	client, front := unixPair(t)
	back, server := unixPair(t)
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		mux.Join(front, back)
	}()
	io.WriteString(client, "question")
	client.CloseWrite()
	if b, err := io.ReadAll(server); string(b) != "question" || err != nil {
		t.Errorf("the server read %q, %v", b, err)
	}
	io.WriteString(server, "answer")
	server.Close()
	if b, err := io.ReadAll(client); string(b) != "answer" || err != nil {
		t.Errorf("the client read %q, %v", b, err)
	}
	<-done
	client.Close()
}

func TestJoinEndsWhenEitherSideIsClosed(t *testing.T) {
	client, front := unixPair(t)
	back, server := unixPair(t)
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		mux.Join(front, back)
	}()
	front.Close()
	if b, err := io.ReadAll(server); len(b) != 0 || err != nil {
		t.Errorf("the server read %q, %v", b, err)
	}
	<-done
	client.Close()
	server.Close()
}
