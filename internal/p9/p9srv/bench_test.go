// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"net"
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
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

// wire is an event-loop client: it writes a batch of requests and reads as
// many replies.
type wire struct {
	conn net.Conn
	out  []byte
	in   []byte
	have int
}

func dialWire(b *testing.B, srv *p9srv.Server) *wire {
	w := &wire{conn: p9test.Pipe(b, srv), in: make([]byte, 2<<20)}
	w.add(p9.NoTag, &p9.Tversion{Msize: p9.MaxMsize, Version: p9.Version})
	w.exchange(b, 1)
	w.add(1, &p9.Tattach{FID: 0, AFID: p9.NoFID})
	w.exchange(b, 1)
	return w
}

func (w *wire) add(tag uint16, m p9.Message) { w.out = p9.AppendFrame(w.out, tag, m) }

// exchange sends what was added and takes n replies.
func (w *wire) exchange(b *testing.B, n int) {
	if _, err := w.conn.Write(w.out); err != nil {
		b.Fatal(err)
	}
	w.out = w.out[:0]
	at := 0
	for n > 0 {
		for w.have-at >= p9.HeaderSize {
			size, typ, _ := p9.Header(w.in[at:])
			if w.have-at < int(size) {
				break
			}
			if typ == p9.TypeRlerror {
				b.Fatal("Rlerror")
			}
			at += int(size)
			n--
		}
		if n == 0 {
			break
		}
		w.have = copy(w.in, w.in[at:w.have])
		at = 0
		m, err := w.conn.Read(w.in[w.have:])
		if err != nil {
			b.Fatal(err)
		}
		w.have += m
	}
	w.have = copy(w.in, w.in[at:w.have])
}

func BenchmarkWalkGetattrClunk(b *testing.B) {
	for _, c := range []struct {
		name  string
		depth int
	}{{"1-in-flight", 1}, {"64-in-flight", 64}} {
		b.Run(c.name, func(b *testing.B) {
			w := dialWire(b, &p9srv.Server{Root: flat{dir: true}})
			walkGetattrClunk(b, w, c.depth)
		})
	}
}

// walkGetattrClunk keeps depth requests in flight: each batch walks, or stats,
// or clunks, depth files.
func walkGetattrClunk(b *testing.B, w *wire, depth int) {
	names := []string{"file"}
	requests := 0
	for b.Loop() {
		for i := range depth {
			w.add(uint16(i), &p9.Twalk{NewFID: uint32(i + 1), Names: names})
		}
		w.exchange(b, depth)
		for i := range depth {
			w.add(uint16(i), &p9.Tgetattr{FID: uint32(i + 1), Mask: p9.AttrBasic})
		}
		w.exchange(b, depth)
		for i := range depth {
			w.add(uint16(i), &p9.Tclunk{FID: uint32(i + 1)})
		}
		w.exchange(b, depth)
		requests += 3 * depth
	}
	b.ReportMetric(float64(requests)/b.Elapsed().Seconds(), "req/s")
}

func BenchmarkRead1M(b *testing.B) {
	w := dialWire(b, &p9srv.Server{Root: flat{dir: true}, Msize: p9.MaxMsize})
	w.add(1, &p9.Twalk{NewFID: 1, Names: []string{"file"}})
	w.exchange(b, 1)
	w.add(1, &p9.Tlopen{FID: 1})
	w.exchange(b, 1)
	b.SetBytes(1 << 20)
	for b.Loop() {
		w.add(1, &p9.Tread{FID: 1, Count: 1 << 20})
		w.exchange(b, 1)
	}
}
