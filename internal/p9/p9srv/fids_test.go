// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"errors"
	"runtime"
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/p9/replay"
)

// A guest that takes all the fids that a share gives by default is told so,
// and costs what is promised for a fid.
func TestFidsWithoutEndAreRefusedAndTakeBoundedMemory(t *testing.T) {
	const perFID = 2 << 10
	root := memfs.New().Root()
	if _, e := root.Mkdir("d", 0o755, p9srv.Owner{}); e != 0 {
		t.Fatal(e)
	}
	tree := replay.New(replay.Config{Root: root})
	t.Cleanup(tree.Close)
	srv := &p9srv.Server{Root: root, Attach: tree.Attach, Locks: new(p9srv.Locks)}
	b, err := p9client.NewBatch(p9test.Pipe(t, srv), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	before := held()
	names := [][]string{nil, {"d"}}
	const step = 1 << 10
	num := uint32(1) // 0 is attached
	for ; num+step <= p9srv.DefaultMaxFIDs; num += step {
		for i := range uint32(step) {
			b.Add(uint16(i), &p9.Twalk{NewFID: num + i, Names: names[i%2]})
		}
		if err := b.Exchange(step); err != nil {
			t.Fatalf("at fid %d: %v", num, err)
		}
	}
	for ; num < p9srv.DefaultMaxFIDs; num++ {
		b.Add(1, &p9.Twalk{NewFID: num})
		if err := b.Exchange(1); err != nil {
			t.Fatalf("at fid %d: %v", num, err)
		}
	}
	for _, more := range []p9.Message{
		&p9.Twalk{NewFID: num}, &p9.Tattach{FID: num, AFID: p9.NoFID}, &p9.Txattrwalk{NewFID: num},
		&p9.Tlookup{NewFID: num, Name: "d"}, &p9.Topenat{NewFID: num}, &p9.Topendir{NewFID: num, Count: 100},
		&p9.Tcreateat{NewFID: num, Name: "f", Flags: linux.ORdwr}, &p9.Ttmpfile{NewFID: num, Flags: linux.ORdwr},
	} {
		b.Add(1, more)
		if err := b.Exchange(1); !errors.Is(err, linux.EMFILE) && !errors.Is(err, linux.EOPNOTSUPP) {
			t.Errorf("%s beyond the last fid: %v, want %v", more.Type(), err, linux.EMFILE)
		}
	}
	if n := held() - before; n > p9srv.DefaultMaxFIDs*perFID {
		t.Errorf("%d fids take %d MiB, more than %d bytes each", num, n>>20, perFID)
	} else {
		t.Logf("%d fids take %d MiB", num, n>>20)
	}
	// Another guest's fids are its own.
	if _, err := p9test.Attach(t, srv, 0).Walk("d"); err != nil {
		t.Errorf("another guest: %v", err)
	}
}
