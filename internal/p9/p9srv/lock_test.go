// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

const (
	rd = p9.LockRead
	wr = p9.LockWrite
	un = p9.LockUnlock
)

// lockable serves one file and opens it.
func lockable(t *testing.T, srv *p9srv.Server) *p9client.FID {
	t.Helper()
	f := p9test.Attach(t, srv, 0)
	if err := f.Create("f", linux.OCreate|linux.ORdwr, 0o600, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func lock(t *testing.T, f *p9client.FID, typ uint8, proc uint32, start, length uint64) uint8 {
	t.Helper()
	status, err := f.Lock(p9.Lock{Type: typ, ProcID: proc, Start: start, Length: length, ClientID: "vm"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestLocksFollowPOSIX(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	for i, s := range []struct {
		typ           uint8
		proc          uint32
		start, length uint64
		want          uint8
	}{
		{wr, 1, 0, 100, p9.LockSuccess},
		{wr, 1, 50, 100, p9.LockSuccess},  // one's own are no obstacle
		{rd, 2, 149, 1, p9.LockBlocked},   // the last byte
		{rd, 2, 150, 0, p9.LockSuccess},   // what follows, to the end
		{rd, 3, 1000, 10, p9.LockSuccess}, // readers share
		{wr, 1, 1 << 40, 1, p9.LockBlocked},
		{un, 1, 40, 10, p9.LockSuccess}, // a hole
		{wr, 3, 40, 10, p9.LockSuccess},
		{wr, 3, 39, 2, p9.LockBlocked},
		{wr, 3, 49, 2, p9.LockBlocked},
		{rd, 1, 0, 40, p9.LockSuccess}, // a downgrade
		{rd, 2, 0, 40, p9.LockSuccess},
		{wr, 1, 0, 1, p9.LockBlocked}, // an upgrade against a reader
		{un, 2, 0, 0, p9.LockSuccess}, // everything of one owner
		{un, 3, 0, 0, p9.LockSuccess},
		{wr, 1, 0, 0, p9.LockSuccess},
	} {
		if got := lock(t, f, s.typ, s.proc, s.start, s.length); got != s.want {
			t.Fatalf("step %d: status %d, want %d", i, got, s.want)
		}
	}
}

func TestGetlockTellsWhoIsInTheWay(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	lock(t, f, rd, 7, 10, 20)
	for _, c := range []struct {
		typ  uint8
		proc uint32
		want p9.Lock
	}{
		{wr, 8, p9.Lock{Type: rd, ProcID: 7, Start: 10, Length: 20, ClientID: "vm"}},
		{un, 8, p9.Lock{Type: rd, ProcID: 7, Start: 10, Length: 20, ClientID: "vm"}}, // Linux's way to ask
		{rd, 8, p9.Lock{Type: un, ProcID: 8, ClientID: "vm"}},
		{wr, 7, p9.Lock{Type: un, ProcID: 7, ClientID: "vm"}},
	} {
		got, err := f.Getlock(p9.Lock{Type: c.typ, ProcID: c.proc, ClientID: "vm"})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("type %d of %d: %s", c.typ, c.proc, d)
		}
	}
}

// opened opens the file of f once more, in the same machine.
func opened(t *testing.T, f *p9client.FID) *p9client.FID {
	t.Helper()
	root, err := f.Client().Attach("", 0)
	if err != nil {
		t.Fatal(err)
	}
	g, err := root.Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Open(linux.ORdwr); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestFlockAndFcntlDoNotMeet(t *testing.T) {
	a := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	b := opened(t, a)
	const process, flock, ofd = "vm", "vm" + p9.LockClientFlock, "vm" + p9.LockClientOFD
	for i, s := range []struct {
		f      *p9client.FID
		client string
		typ    uint8
		start  uint64
		want   uint8
	}{
		{a, flock, wr, 0, p9.LockSuccess},
		{b, process, wr, 0, p9.LockSuccess}, // the same process number
		{b, flock, rd, 0, p9.LockBlocked},   // an open file is an owner
		{a, flock, rd, 0, p9.LockSuccess},
		{b, flock, rd, 0, p9.LockSuccess},
		{a, flock, wr, 0, p9.LockBlocked},
		{b, flock, un, 0, p9.LockSuccess},
		{a, flock, wr, 0, p9.LockSuccess},
		{a, ofd, wr, 0, p9.LockBlocked}, // against the process's own
		{b, process, un, 5, p9.LockSuccess},
		{a, ofd, wr, 5, p9.LockSuccess},
		{b, ofd, rd, 5, p9.LockBlocked},
		{b, process, rd, 5, p9.LockBlocked},
		{b, process, un, 0, p9.LockSuccess}, // takes nothing from the open file
		{b, ofd, rd, 5, p9.LockBlocked},
		{a, process, wr, 0, p9.LockBlocked},
		{b, ofd, rd, 0, p9.LockBlocked}, // reaches into it
	} {
		got, err := s.f.Lock(p9.Lock{Type: s.typ, ProcID: 1, Start: s.start, ClientID: s.client}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got != s.want {
			t.Fatalf("step %d: status %d, want %d", i, got, s.want)
		}
	}
	if err := a.Clunk(); err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{process, flock, ofd} {
		if got, err := b.Lock(p9.Lock{Type: wr, ProcID: 2, ClientID: client}, 0); err != nil || got != p9.LockSuccess {
			t.Errorf("lock of %s after the clunk: status %d, %v", client, got, err)
		}
		b.Lock(p9.Lock{Type: un, ProcID: 2, ClientID: client}, 0)
	}
}

func TestGetlockSeesFcntlLocksAlone(t *testing.T) {
	a := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	b := opened(t, a)
	if got, err := a.Lock(p9.Lock{Type: wr, ProcID: 9, ClientID: "vm/flock"}, 0); err != nil || got != p9.LockSuccess {
		t.Fatal(got, err)
	}
	if got, err := b.Getlock(p9.Lock{Type: wr, ProcID: 1, ClientID: "vm"}); err != nil || got.Type != un {
		t.Errorf("a flock is told to fcntl: %v, %v", got, err)
	}
	if got, err := a.Lock(p9.Lock{Type: wr, ProcID: 9, ClientID: "vm/ofd"}, 0); err != nil || got != p9.LockSuccess {
		t.Fatal(got, err)
	}
	want := p9.Lock{Type: wr, ProcID: 9, ClientID: "vm/ofd"}
	if got, err := b.Getlock(p9.Lock{Type: rd, ProcID: 1, ClientID: "vm"}); err != nil || got != want {
		t.Errorf("Getlock = %v, %v, want %v", got, err, want)
	}
	if got, err := a.Getlock(p9.Lock{Type: rd, ProcID: 9, ClientID: "vm/ofd"}); err != nil || got.Type != un {
		t.Errorf("an open file's lock stands in its own way: %v, %v", got, err)
	}
}

func TestLocksAreSharedBetweenMachines(t *testing.T) {
	tree, locks := memfs.New(), new(p9srv.Locks)
	a := lockable(t, &p9srv.Server{Root: tree.Root(), Locks: locks})
	b := lockable(t, &p9srv.Server{Root: tree.Root(), Locks: locks})
	if got := lock(t, a, wr, 1, 0, 0); got != p9.LockSuccess {
		t.Fatal(got)
	}
	// The same process number in another machine is another process.
	if got := lock(t, b, wr, 1, 0, 0); got != p9.LockBlocked {
		t.Errorf("status %d", got)
	}
	a.Client().Close()
	for lock(t, b, wr, 1, 0, 0) != p9.LockSuccess {
		if t.Context().Err() != nil {
			t.Fatal("locks outlive their connection")
		}
	}
}

func TestClunkGivesUpLocks(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	g := opened(t, f)
	lock(t, f, wr, 1, 0, 10)
	if got := lock(t, g, wr, 2, 0, 10); got != p9.LockBlocked {
		t.Fatal(got)
	}
	if err := f.Clunk(); err != nil {
		t.Fatal(err)
	}
	if got := lock(t, g, wr, 2, 0, 10); got != p9.LockSuccess {
		t.Errorf("status %d after the clunk", got)
	}
}

func TestManyAdjacentLocksAreOne(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	for i := range uint64(20000) {
		if got := lock(t, f, wr, 1, i, 1); got != p9.LockSuccess {
			t.Fatalf("lock %d: status %d", i, got)
		}
	}
}

func TestLocksOfOneFileAreBounded(t *testing.T) {
	f := lockable(t, &p9srv.Server{Root: memfs.New().Root()})
	for i := range uint64(20000) {
		if lock(t, f, wr, 1, 2*i, 1) == p9.LockError {
			return
		}
	}
	t.Error("twenty thousand ranges are held")
}
