// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/replay"
)

// recording is a flat tree that notes how its files are made durable.
type recording struct {
	flat
	notes *notes
}

type notes struct {
	mu sync.Mutex
	// datasync is guarded by mu.
	datasync []bool
}

func (n recording) Clone() p9srv.Node                     { return n }
func (n recording) Walk(string) (p9srv.Node, linux.Errno) { n.flat.dir = false; return n, 0 }
func (n recording) Open(linux.OpenFlags) (p9srv.File, linux.Errno) {
	return recordingFile{n: n.notes}, 0
}
func (n recording) Getattr(_ uint64, a *p9.Attr) linux.Errno       { a.Mode = linux.TypeRegular; return 0 }
func (f recordingFile) Write(p []byte, _ int64) (int, linux.Errno) { return len(p), 0 }

type recordingFile struct {
	p9srv.UnimplementedFile
	n *notes
}

func (f recordingFile) Fsync(datasync bool) linux.Errno {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	f.n.datasync = append(f.n.datasync, datasync)
	return 0
}

func TestFsyncAndFdatasyncAreToldApart(t *testing.T) {
	for _, followed := range []bool{false, true} {
		n := recording{flat{dir: true}, new(notes)}
		srv := &p9srv.Server{Root: n}
		if followed {
			tree := replay.New(replay.Config{Root: n})
			t.Cleanup(tree.Close)
			srv.Attach = tree.Attach
		}
		w := newWire(t, srv).session()
		w.call(&p9.Twalk{NewFID: 1, Names: []string{"f"}})
		w.call(&p9.Tlopen{FID: 1, Flags: linux.ORdwr})
		for _, datasync := range []uint32{0, 1, 0, 1 << 31} {
			if r := w.call(&p9.Tfsync{FID: 1, Datasync: datasync}); r.Type() != p9.TypeRfsync {
				t.Fatalf("fsync = %+v", r)
			}
		}
		// Clients of before Linux 2.6.38 send no field.
		old := binary.LittleEndian.AppendUint32(nil, 11)
		old = append(old, byte(p9.TypeTfsync), 99, 0, 1, 0, 0, 0)
		if _, err := w.conn.Write(old); err != nil {
			t.Fatal(err)
		}
		if r := w.frames(1)[0]; r.Type() != p9.TypeRfsync {
			t.Fatalf("fsync without a field = %+v", r)
		}
		if diff := cmp.Diff([]bool{false, true, false, true, false}, n.notes.datasync); diff != "" {
			t.Errorf("followed: %v: %s", followed, diff)
		}
	}
}
