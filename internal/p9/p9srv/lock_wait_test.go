// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"testing"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
)

// ask sends a Tlock that is ready to wait.
func ask(t *testing.T, f *p9client.FID, typ uint8, proc uint32) (*p9client.Pending, *p9.Rlock) {
	t.Helper()
	r := new(p9.Rlock)
	p, err := f.Client().Start(&p9.Tlock{FID: f.Num(), LType: typ, Flags: p9.LockFlagBlock, ProcID: proc, ClientID: "vm"}, r)
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

// held waits until a request of f's connection has been taken in.
func settled(t *testing.T, f *p9client.FID) {
	t.Helper()
	if _, err := f.Getattr(p9.AttrAll); err != nil {
		t.Fatal(err)
	}
}

func TestAWaitingLockIsGrantedByTheUnlock(t *testing.T) {
	tree, locks := memfs.New(), new(p9srv.Locks)
	a := lockable(t, &p9srv.Server{Root: tree.Root(), Locks: locks})
	b := lockable(t, &p9srv.Server{Root: tree.Root(), Locks: locks})
	for name, other := range map[string]*p9client.FID{"one machine": a, "two machines": b} {
		lock(t, a, wr, 1, 0, 0)
		p, r := ask(t, other, wr, 2)
		settled(t, other)
		start := time.Now()
		lock(t, a, un, 1, 0, 0)
		if err := p.Wait(); err != nil || r.Status != p9.LockSuccess {
			t.Fatalf("%s: status %d, %v", name, r.Status, err)
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("%s: the lock came after %v", name, d)
		}
		lock(t, other, un, 2, 0, 0)
	}
}

func TestWaitersAreServedInTheirOrder(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	lock(t, f, wr, 1, 0, 0)
	first, r1 := ask(t, f, wr, 2)
	second, r2 := ask(t, f, wr, 3)
	settled(t, f)
	lock(t, f, un, 1, 0, 0)
	if err := first.Wait(); err != nil || r1.Status != p9.LockSuccess {
		t.Fatalf("status %d, %v", r1.Status, err)
	}
	lock(t, f, un, 2, 0, 0)
	if err := second.Wait(); err != nil || r2.Status != p9.LockSuccess {
		t.Fatalf("status %d, %v", r2.Status, err)
	}
}

func TestAWaitingLockIsToldToAskAgain(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	lock(t, f, wr, 1, 0, 0)
	start := time.Now()
	p, r := ask(t, f, wr, 2)
	if err := p.Wait(); err != nil || r.Status != p9.LockBlocked {
		t.Fatalf("status %d, %v", r.Status, err)
	}
	// The client cannot be interrupted meanwhile.
	if d := time.Since(start); d > time.Second {
		t.Errorf("the answer took %v", d)
	}
}

func TestFlushEndsTheWaitForALock(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	lock(t, f, wr, 1, 0, 0)
	p, _ := ask(t, f, wr, 2)
	if err := f.Client().Flush(p); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != linux.EINTR {
		t.Fatalf("the flushed lock was answered: %v", err)
	}
	lock(t, f, un, 1, 0, 0)
	// What was flushed has not taken the lock.
	if got := lock(t, f, wr, 3, 0, 0); got != p9.LockSuccess {
		t.Errorf("status %d", got)
	}
}

func TestClunkAndVersionEndTheWaitForALock(t *testing.T) {
	tree := memfs.New()
	f := lockable(t, &p9srv.Server{Root: tree.Root()})
	g := opened(t, f)
	lock(t, f, wr, 1, 0, 0)
	p, r := ask(t, g, wr, 2)
	if err := g.Clunk(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil || r.Status != p9.LockError {
		t.Errorf("status %d, %v after the clunk", r.Status, err)
	}
	w := newWire(t, &p9srv.Server{Root: tree.Root()}).session()
	w.call(&p9.Twalk{NewFID: 1, Names: []string{"f"}})
	w.call(&p9.Tlopen{FID: 1, Flags: linux.ORdwr})
	w.call(&p9.Tlock{FID: 1, LType: wr, ProcID: 1})
	w.send(30, &p9.Tlock{FID: 1, LType: wr, ProcID: 2, Flags: p9.LockFlagBlock})
	if r := w.call(&p9.Tversion{Msize: 8192, Version: p9.Version}); r.Type() != p9.TypeRversion {
		t.Errorf("%s in answer to Tversion", r.Type())
	}
}

func TestFloodsOfWaitingLocksCostLittle(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root(), Workers: 1}).session()
	w.call(&p9.Twalk{NewFID: 1})
	w.call(&p9.Tlcreate{FID: 1, Name: "f", Flags: linux.ORdwr})
	w.call(&p9.Tlock{FID: 1, LType: wr, ProcID: 1})
	for i := range 1000 {
		w.send(uint16(100+i), &p9.Tlock{FID: 1, LType: wr, ProcID: uint32(2 + i), Flags: p9.LockFlagBlock})
	}
	// Most are answered at once, and the one worker is free.
	w.send(5000, &p9.Twrite{FID: 1, Data: []byte("x")})
	blocked := 0
	for {
		m := w.frames(1)[0]
		if m.Type() == p9.TypeRwrite {
			break
		}
		blocked++
	}
	if blocked < 700 {
		t.Errorf("%d of a thousand were answered before the write", blocked)
	}
}
