// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"errors"
	"testing"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// A guest that opens fids without end, floods flushes and never reads a reply
// keeps no other guest from working.
func TestAHostileGuestLeavesOthersAlone(t *testing.T) {
	tree := memfs.New()
	srv := &p9srv.Server{Root: tree.Root(), MaxFIDs: 10000, Locks: new(p9srv.Locks)}
	bad := newWire(t, srv).session()
	good := p9test.Client(p9test.Attach(t, srv, 0), 0)
	var flood []byte
	for i := range uint32(100000) {
		flood = p9.AppendFrame(flood, uint16(i%60000), &p9.Twalk{NewFID: i * 37})
		flood = p9.AppendFrame(flood, uint16(60000+i%5000), &p9.Tflush{OldTag: uint16(i % 60000)})
	}
	bad.conn.SetWriteDeadline(time.Now().Add(time.Second))
	done := make(chan error, 1)
	go func() { _, err := bad.conn.Write(flood); done <- err }()
	start := time.Now()
	for range 200 {
		f, err := good.Open("f", linux.OCreate|linux.ORdwr, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte("x"), 0)
		if err := errors.Join(err, f.Close(), good.Unlink("f")); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("two hundred files took the other guest %v", d)
	}
	<-done
}

func TestReadsOfImpossibleSizesAreCutToTheMessage(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	if _, err := f.WriteAt(make([]byte, 1000), 0); err != nil {
		t.Fatal(err)
	}
	var r p9.Rread
	if err := f.Client().Call(&p9.Tread{FID: f.Num(), Count: 1<<32 - 1}, &r); err != nil || len(r.Data) != 1000 {
		t.Errorf("%d bytes, %v", len(r.Data), err)
	}
	if err := f.Client().Call(&p9.Tread{FID: f.Num(), Offset: 1<<64 - 1, Count: 1<<32 - 1}, &r); !errors.Is(err, linux.EINVAL) {
		t.Errorf("a read beyond what a file can be: %v", err)
	}
}
