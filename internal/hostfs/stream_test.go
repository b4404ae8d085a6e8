// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// noise returns n bytes that do not repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	rand.NewChaCha8(seed).Read(b)
	return b
}

func TestLargeReadsReadWhatThereIs(t *testing.T) {
	dir := t.TempDir()
	want := noise(3<<20 + 123)
	if err := os.WriteFile(filepath.Join(dir, "f"), want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := export(t, hostfs.Config{Path: dir}).Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(linux.ORdonly); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for _, off := range []int{0, 1, 4095, 1 << 20, 3<<20 - 100<<10, 3<<20 + 100, len(want), len(want) + 1<<20} {
		n, err := f.ReadAt(buf[:1<<20-24], int64(off))
		from := min(off, len(want))
		if to := min(from+1<<20-24, len(want)); err != nil || !bytes.Equal(buf[:n], want[from:to]) {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
}

// What was announced is written whole, whatever becomes of the file.
func TestAFileThatShrinksWhileItIsSentEndsInZeros(t *testing.T) {
	dir := t.TempDir()
	want := noise(256 << 10)
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	fs, err := hostfs.Open(hostfs.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	root := fs.Root()
	defer root.Release()
	n, e := root.Walk("f")
	if e != 0 {
		t.Fatal(e)
	}
	defer n.Release()
	file, e := n.Open(linux.ORdonly)
	if e != 0 {
		t.Fatal(e)
	}
	defer file.Close()
	here, there := p9test.SocketPair(t)
	defer here.Close()
	defer there.Close()
	s := file.(p9srv.Streamer)
	got := s.Streamable(there, 1<<20, 0)
	if got == 0 {
		t.Log("this system's files are copied")
		got = len(want)
	}
	if got != len(want) {
		t.Fatalf("%d bytes can be streamed, want %d", got, len(want))
	}
	const left = 100<<10 + 7
	if err := os.Truncate(path, left); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Stream(there, got, 0) }()
	buf := make([]byte, got)
	if _, err := io.ReadFull(here, buf); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	clear(want[left:])
	if !bytes.Equal(buf, want) {
		t.Error("other bytes were sent")
	}
}
