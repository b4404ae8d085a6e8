// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"testing"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// gated is a flat tree whose reads wait at a gate.
type gated struct {
	flat
	entered chan struct{}
	gate    chan struct{}
}

func newGated() gated {
	return gated{flat{dir: true}, make(chan struct{}, 100), make(chan struct{})}
}

func (n gated) Clone() p9srv.Node { return n }

func (n gated) Walk(string) (p9srv.Node, linux.Errno) { n.flat.dir = false; return n, 0 }

func (n gated) Open(linux.OpenFlags) (p9srv.File, linux.Errno) { return gatedFile{n: n}, 0 }

type gatedFile struct {
	p9srv.UnimplementedFile
	n gated
}

func (f gatedFile) Read(p []byte, _ int64) (int, linux.Errno) {
	f.n.entered <- struct{}{}
	<-f.n.gate
	return len(p), 0
}

// openGated serves a gated tree and opens a file in it.
func openGated(t *testing.T, n gated, workers int) *p9client.FID {
	t.Helper()
	root := p9test.Attach(t, &p9srv.Server{Root: n, Workers: workers}, 0)
	f, err := root.Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(linux.ORdonly); err != nil {
		t.Fatal(err)
	}
	return f
}

// frames reads n replies off a connection.
func (w *testWire) frames(n int) []p9.Message {
	w.Helper()
	var got []p9.Message
	w.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range n {
		m, err := w.frame()
		if err != nil {
			w.Fatalf("after %d of %d replies: %v", len(got), n, err)
		}
		got = append(got, m)
	}
	return got
}
