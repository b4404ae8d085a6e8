// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

func benchShare(b *testing.B, mapped bool) *p9client.Batch {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	fs, err := hostfs.Open(hostfs.Config{Path: dir, Mapped: mapped})
	if err != nil {
		b.Fatal(err)
	}
	root := fs.Root()
	b.Cleanup(func() { root.Release(); fs.Close() })
	c, err := p9client.NewBatch(p9test.Pipe(b, &p9srv.Server{Root: root, Msize: p9.MaxMsize}), "", 0)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkWalkGetattrClunk(b *testing.B) {
	for _, c := range []struct {
		name   string
		depth  int
		mapped bool
	}{
		{"passthrough-1-in-flight", 1, false}, {"passthrough-64-in-flight", 64, false},
		{"mapped-1-in-flight", 1, true}, {"mapped-64-in-flight", 64, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := benchShare(b, c.mapped)
			requests := 0
			for b.Loop() {
				n, err := p9test.WalkGetattrClunk(w, "file", 1, c.depth)
				if err != nil {
					b.Fatal(err)
				}
				requests += n
			}
			b.ReportMetric(float64(requests)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

func BenchmarkRead1M(b *testing.B) {
	w := benchShare(b, false)
	if err := p9test.OpenForReading(w, "file"); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1 << 20)
	for b.Loop() {
		if err := p9test.Read1M(w, 1); err != nil {
			b.Fatal(err)
		}
	}
}
