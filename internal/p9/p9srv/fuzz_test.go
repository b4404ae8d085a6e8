// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// script is a connection whose client sends what is in it and goes away.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error) { return len(p), nil }
func (script) Close() error                { return nil }

// FuzzServe feeds sessions followed by whatever comes to a server of a tree, to
// one of a tree that is followed as a share is, and to one that asks for a
// secret: each must come to an end, and not by a panic.
func FuzzServe(f *testing.F) {
	for _, session := range seeds {
		var b []byte
		for i, m := range session {
			b = p9.AppendFrame(b, uint16(i+1), m)
		}
		f.Add(b)
	}
	version := p9.AppendFrame(nil, p9.NoTag, &p9.Tversion{Msize: 64 << 10, Version: p9.Version})
	attached := p9.AppendFrame(slices.Clone(version), 0, &p9.Tattach{AFID: p9.NoFID})
	f.Fuzz(func(t *testing.T, rest []byte) {
		root := memfs.New().Root()
		serve(t, &p9srv.Server{Root: root}, attached, rest)
		root = memfs.New().Root()
		tree := replay.New(replay.Config{Root: root, MaxDirs: 8, MaxIdleDirs: 2})
		serve(t, &p9srv.Server{Root: root, Attach: tree.Attach}, attached, rest)
		tree.Note([]watch.Event{{Op: watch.Lost}})
		tree.Finish(tree.Plan(100), nil)
		tree.Close()
		serve(t, &p9srv.Server{Root: memfs.New().Root(), Secret: []byte("secret")}, version, rest)
	})
}

// serve has srv answer a client that says what it is given and goes away.
func serve(t *testing.T, srv *p9srv.Server, begin, rest []byte) {
	t.Helper()
	srv.Msize, srv.MaxFIDs = 64<<10, 64
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := srv.Serve(ctx, script{io.MultiReader(bytes.NewReader(begin), bytes.NewReader(rest))})
	if ctx.Err() != nil {
		t.Fatal("serving does not end")
	}
	if err != nil && strings.Contains(err.Error(), "panic") {
		t.Fatal(err)
	}
}
