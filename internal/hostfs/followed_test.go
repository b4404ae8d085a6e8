// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/watch"
)

// hostWatcher makes a replay.Watcher of a watcher.
type hostWatcher struct{ *watch.Watcher }

func (w hostWatcher) Add(id watch.ID, path string, file p9srv.FileID) error {
	return w.Watcher.Add(id, path, watch.Identity(file))
}

// followed1 is an export as a machine's share has it: the host tells of
// changes, and what the guest is to be told of them is collected.
type followed1 struct {
	tree   *replay.Tree
	server *p9srv.Server

	mu sync.Mutex
	// told is guarded by mu.
	told []string
}

func followHost(t *testing.T, cfg hostfs.Config) *followed1 {
	t.Helper()
	fs, err := hostfs.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.Open(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	root := fs.Root()
	f := &followed1{tree: replay.New(replay.Config{Root: root, Watcher: hostWatcher{w}, Reclaims: true})}
	f.server = &p9srv.Server{Root: root, Attach: f.tree.Attach}
	var work sync.WaitGroup
	done := make(chan struct{})
	work.Go(func() {
		for {
			events, err := w.Next()
			if err != nil {
				if !errors.Is(err, watch.ErrClosed) {
					t.Error(err)
				}
				return
			}
			f.tree.Note(events)
		}
	})
	work.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-f.tree.Wake():
			}
			time.Sleep(5 * time.Millisecond)
			f.tell()
		}
	})
	t.Cleanup(func() {
		close(done)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
		f.tree.Close()
		root.Release()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// tell plans and has the guest take all.
func (f *followed1) tell() {
	for {
		steps := f.tree.Plan(100)
		if len(steps) == 0 {
			return
		}
		f.mu.Lock()
		for _, s := range steps {
			f.told = append(f.told, fmt.Sprint([...]string{"create ", "remove ", "rename ", "modify ", "attrib "}[s.Kind], filepath.Join(s.Dir, s.Name)))
		}
		f.mu.Unlock()
		f.tree.Finish(steps, make([]linux.Errno, len(steps)))
	}
}

// keeps runs the suite, in which nothing is done but by the guest: it must be
// told of nothing.
func (f *followed1) keeps(t *testing.T, traits p9test.Traits) {
	t.Helper()
	root := p9test.Attach(t, f.server, 0)
	p9test.Run(t, p9test.Client(root, 0), traits)
	f.tree.Note([]watch.Event{{Op: watch.Lost}})
	time.Sleep(300 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, s := range f.told {
		if i < 20 {
			t.Errorf("the guest is told of its own change: %s", s)
		}
	}
}

func TestFollowedSharesKeepTheContract(t *testing.T) {
	testenv.NeedRoot(t, "pass owners through")
	followHost(t, hostfs.Config{Path: t.TempDir()}).keeps(t, p9test.Traits{})
}

func TestFollowedMappedSharesKeepTheContract(t *testing.T) {
	followHost(t, hostfs.Config{Path: t.TempDir(), Mapped: true, Sidecar: t.TempDir() + "/side"}).keeps(t, p9test.Traits{Slow: true})
}

// The host tells of no write through a mapping, but the file's time does.
func TestWhatTheHostWritesThroughAMappingIsOpenedUncached(t *testing.T) {
	cfg := hostfs.Config{Path: t.TempDir(), Mapped: os.Getuid() != 0}
	path := filepath.Join(cfg.Path, "f")
	if err := os.WriteFile(path, []byte("contents"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m, err := unix.Mmap(int(file.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	f := follow(t, cfg)
	knows := func() (cached bool) {
		g, err := f.guest.Walk("f")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Getattr(p9.AttrAll); err != nil {
			t.Fatal(err)
		}
		if err := g.Open(linux.ORdonly); err != nil {
			t.Fatal(err)
		}
		defer g.Clunk()
		return g.QID.Version != 0
	}
	if !knows() {
		t.Error("a file that nobody writes is not cached")
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	copy(m, "CONTENTS")
	if after, err := os.Stat(path); err != nil || after.ModTime().Equal(before.ModTime()) {
		testenv.Skip(t, testenv.Limit, "the file system sets no time when a mapping is written: %v", err)
	}
	if knows() {
		t.Error("the guest would read what it has cached of the file")
	}
	if steps := f.tree.Plan(10); len(steps) != 1 || steps[0].Kind != replay.Modify {
		t.Errorf("the guest is told %v", steps)
	}
	f.tree.Finish(nil, nil)
}
