// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// flat is a tree of one directory in which every name is a file of zeros: it
// costs nothing, so what is measured is the server.
type flat struct {
	p9srv.Unimplemented
	dir bool
}

func (n flat) QID() p9.QID {
	if n.dir {
		return p9.QID{Type: p9.QTDir, Version: 1, Path: 1}
	}
	return p9.QID{Version: 1, Path: 2}
}
func (n flat) FileID() p9srv.FileID                           { return p9srv.FileID{File: n.QID().Path} }
func (n flat) Clone() p9srv.Node                              { return n }
func (n flat) Release()                                       {}
func (n flat) Walk(string) (p9srv.Node, linux.Errno)          { return flat{}, 0 }
func (n flat) Open(linux.OpenFlags) (p9srv.File, linux.Errno) { return zeros{}, 0 }
func (n flat) Getattr(_ uint64, a *p9.Attr) linux.Errno {
	a.QID, a.Valid = n.QID(), p9.AttrBasic
	return 0
}

type zeros struct{ p9srv.UnimplementedFile }

func (zeros) Read(p []byte, _ int64) (int, linux.Errno) { return len(p), 0 }

func batch(b *testing.B, srv *p9srv.Server) *p9client.Batch {
	c, err := p9client.NewBatch(p9test.Pipe(b, srv), "", 0)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkWalkGetattrClunk(b *testing.B) {
	for _, c := range []struct {
		name  string
		depth int
	}{{"1-in-flight", 1}, {"64-in-flight", 64}} {
		b.Run(c.name, func(b *testing.B) {
			w := batch(b, &p9srv.Server{Root: flat{dir: true}})
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
	w := batch(b, &p9srv.Server{Root: flat{dir: true}, Msize: p9.MaxMsize})
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
