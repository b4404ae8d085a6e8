// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// unwatched is a replay.Watcher that watches nothing.
type unwatched struct{}

func (unwatched) Add(watch.ID, string, p9srv.FileID) error { return nil }
func (unwatched) Remove(watch.ID)                          {}

// machine attaches to an export of its own, as another machine's, followed by
// replay as those of real machines are.
func machine(t *testing.T, cfg hostfs.Config) *p9client.FID {
	t.Helper()
	fs, err := hostfs.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	root := fs.Root()
	tree := replay.New(replay.Config{Root: root, Watcher: unwatched{}})
	t.Cleanup(func() {
		tree.Close()
		root.Release()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return p9test.Attach(t, &p9srv.Server{Root: root, Attach: tree.Attach}, 0)
}

// opens opens a file and says whether it may be cached.
func opens(t *testing.T, root *p9client.FID, name string, flags linux.OpenFlags) (f *p9client.FID, cached bool) {
	t.Helper()
	f, err := root.Walk(name)
	if err != nil {
		t.Fatal(err)
	}
	if f.QID.Version == 0 {
		t.Errorf("%s has version 0 before it is opened", name)
	}
	if err := f.Open(flags); err != nil {
		t.Fatal(err)
	}
	return f, f.QID.Version != 0
}

func TestWhatAnotherMachineWritesIsOpenedUncached(t *testing.T) {
	cfg := lockShare(t)
	a, b := machine(t, cfg), machine(t, cfg)
	check := func(root *p9client.FID, flags linux.OpenFlags, want bool, when string) *p9client.FID {
		t.Helper()
		f, cached := opens(t, root, "f", flags)
		if cached != want {
			t.Errorf("opened with %#o %s: cached is %t", flags, when, cached)
		}
		return f
	}
	close := func(files ...*p9client.FID) {
		for _, f := range files {
			if err := f.Clunk(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := check(a, linux.ORdonly, true, "by nobody else")
	w := check(b, linux.ORdwr, true, "while others read")
	w2 := check(b, linux.OWronly, true, "while this machine writes")
	close(r, check(a, linux.ORdonly, false, "while another writes"), check(a, linux.ORdwr, false, "while another writes"))
	close(w)
	close(check(a, linux.ORdonly, false, "while another writes still"))
	close(w2)
	close(check(a, linux.ORdwr, true, "after the last close"))
	close(check(b, linux.ORdonly, true, "after that"))
}

func TestAFileThatIsCreatedWhereAnotherWritesIsOpenedUncached(t *testing.T) {
	cfg := lockShare(t)
	a, b := machine(t, cfg), machine(t, cfg)
	opens(t, b, "f", linux.ORdwr)
	for name, version := range map[string]bool{"f": false, "new": true} {
		d, err := a.Walk()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Create(name, linux.ORdwr, 0o644, 0); err != nil {
			t.Fatal(err)
		}
		if got := d.QID.Version != 0; got != version {
			t.Errorf("%s: cached is %t", name, got)
		}
	}
}

// A single file's share is of the same file.
func TestASingleFilesWriterIsSeen(t *testing.T) {
	cfg := lockShare(t)
	a := machine(t, cfg)
	single := cfg
	single.Path = filepath.Join(cfg.Path, "f")
	opens(t, export(t, single), "f", linux.OWronly)
	if _, cached := opens(t, a, "f", linux.ORdonly); cached {
		t.Error("the directory's share caches what the file's share writes")
	}
}

func TestAWriterThatWasKilledIsForgotten(t *testing.T) {
	cfg := lockShare(t)
	a := machine(t, cfg)
	other, in := startLocker(t, cfg, "vm")
	defer in.Close()
	f, cached := opens(t, a, "f", linux.ORdwr)
	if cached {
		t.Error("what another process writes is cached")
	}
	if got := lock(t, f, p9.LockWrite, 120, 1, "vm"); got != p9.LockBlocked {
		t.Errorf("a range that another process holds, of a file open for writing: status %d", got)
	}
	other.Process.Kill()
	other.Wait()
	if _, cached := opens(t, a, "f", linux.ORdwr); !cached {
		t.Error("what a killed process wrote is not cached")
	}
}

func TestTheFileThatTellsOfWritersGoesWithTheLast(t *testing.T) {
	cfg := lockShare(t)
	fs, err := hostfs.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	root := fs.Root()
	n, e := root.Walk("f")
	if e != 0 {
		t.Fatal(e)
	}
	f, e := n.Open(linux.ORdwr)
	if e != 0 {
		t.Fatal(e)
	}
	f.Close()
	n.Release()
	root.Release()
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(cfg.LockDir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func contents(t *testing.T, cfg hostfs.Config, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cfg.Path, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// maps tells the server that an open file is mapped.
func maps(f *p9client.FID) error {
	return f.Client().Call(&p9.Tmapped{FID: f.Num()}, &p9.Rmapped{})
}

func TestAMappedFileIsNotWrittenElsewhere(t *testing.T) {
	cfg := lockShare(t)
	a, b := machine(t, cfg), machine(t, cfg)
	mapped, _ := opens(t, a, "f", linux.ORdwr)
	if err := maps(mapped); err != nil {
		t.Fatal(err)
	}
	theirs, cached := opens(t, b, "f", linux.ORdwr)
	if cached {
		t.Error("what is mapped elsewhere is cached")
	}
	changes := map[string]func() error{
		"written": func() error {
			_, err := theirs.WriteAt([]byte("theirs"), 0)
			return err
		},
		"cut off": func() error {
			return theirs.Setattr(p9.SetAttr{Valid: p9.SetSize})
		},
		"emptied by opening": func() error {
			f, err := b.Walk("f")
			if err != nil {
				return err
			}
			return errors.Join(f.Open(linux.OWronly|linux.OTrunc), f.Clunk())
		},
		"reserved": func() error {
			return theirs.Client().Call(&p9.Tallocate{FID: theirs.Num(), Length: 100}, &p9.Rallocate{})
		},
	}
	for what, change := range changes {
		if err := change(); !errors.Is(err, linux.ETXTBSY) {
			t.Errorf("%s elsewhere: %v, want ETXTBSY", what, err)
		}
	}
	if got := contents(t, cfg, "f"); got != "x" {
		t.Errorf("what was refused left %q", got)
	}
	if _, err := mapped.WriteAt([]byte("y"), 0); err != nil {
		t.Errorf("written by the machine itself: %v", err)
	}
	again, _ := opens(t, a, "f", linux.ORdwr)
	if err := errors.Join(maps(again), again.Clunk()); err != nil {
		t.Errorf("mapped once more: %v", err)
	}
	if err := mapped.Clunk(); err != nil {
		t.Fatal(err)
	}
	for what, change := range changes {
		if err := change(); err != nil {
			t.Errorf("%s after the file was closed there: %v", what, err)
		}
	}
}

func TestAFileThatIsWrittenElsewhereIsNotMapped(t *testing.T) {
	cfg := lockShare(t)
	a, b := machine(t, cfg), machine(t, cfg)
	mine, _ := opens(t, a, "f", linux.ORdwr)
	theirs, _ := opens(t, b, "f", linux.ORdwr)
	if err := maps(mine); err != linux.ETXTBSY {
		t.Errorf("mapped while another writes: %v, want ETXTBSY", err)
	}
	if err := theirs.Clunk(); err != nil {
		t.Fatal(err)
	}
	if err := maps(mine); err != nil {
		t.Errorf("mapped when nobody else writes: %v", err)
	}
	readOnly, _ := opens(t, a, "f", linux.ORdonly)
	if err := maps(readOnly); err != linux.EBADF {
		t.Errorf("a file opened for reading is mapped for writing: %v, want EBADF", err)
	}
}
