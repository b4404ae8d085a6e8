// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/watch"
)

// watching opens a watcher of dir and collects what it tells.
func watching(t *testing.T, dir string) (*watch.Watcher, func() []watch.Event) {
	t.Helper()
	w, err := watch.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []watch.Event
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			events, err := w.Next()
			if err != nil {
				if !errors.Is(err, watch.ErrClosed) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			got = append(got, events...)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return w, func() []watch.Event {
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		all := got
		got = nil
		return joined(all)
	}
}

// joined merges neighbours that one reading, had it been later, would have.
func joined(all []watch.Event) []watch.Event {
	var out []watch.Event
	for _, e := range all {
		if n := len(out); n > 0 && out[n-1].Dir == e.Dir && out[n-1].Name == e.Name &&
			(out[n-1].Op|e.Op)&(watch.Remove|watch.Rename) == 0 && e.Op&watch.Create == 0 {
			out[n-1].Op |= e.Op
			continue
		}
		out = append(out, e)
	}
	return out
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChangesInWatchedDirectoriesAreTold(t *testing.T) {
	dir := t.TempDir()
	try(t, os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755))
	w, told := watching(t, dir)
	try(t, w.Add(0, "", watch.Identity{}))
	try(t, w.Add(1, "sub", watch.Identity{}))

	write(t, filepath.Join(dir, "a"), "1")
	write(t, filepath.Join(dir, "sub/deep/unseen"), "1")
	want := []watch.Event{{Dir: 0, Name: "a", Op: watch.Create | watch.Modify | watch.Close}}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Error(diff)
	}
	try(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "sub/b")))
	try(t, os.Chmod(filepath.Join(dir, "sub/b"), 0o600))
	try(t, os.Rename(filepath.Join(dir, "sub/b"), filepath.Join(dir, "sub/deep/b")))
	want = []watch.Event{
		{Dir: 0, Name: "a", Op: watch.Rename, ToDir: 1, To: "b"},
		{Dir: 1, Name: "b", Op: watch.Attrib},
		{Dir: 1, Name: "b", Op: watch.Remove},
	}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Error(diff)
	}
	w.Remove(1)
	write(t, filepath.Join(dir, "sub/c"), "1")
	if got := told(); len(got) != 0 {
		t.Errorf("a directory that was removed tells %v", got)
	}
}

func TestAWatchedDirectoryKeepsItsIDWhereverItMoves(t *testing.T) {
	dir := t.TempDir()
	try(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	w, told := watching(t, dir)
	try(t, w.Add(7, "sub", watch.Identity{}))
	try(t, os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "moved")))
	write(t, filepath.Join(dir, "moved/f"), "")
	want := []watch.Event{{Dir: 7, Name: "f", Op: watch.Create | watch.Close}}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Error(diff)
	}
}

func TestNoPathLeadsOutOfTheRoot(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	try(t, os.Symlink(outside, filepath.Join(dir, "link")))
	try(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	w, _ := watching(t, dir)
	for _, path := range []string{"link", "..", "/etc", "sub/../..", "link/x"} {
		if err := w.Add(1, path, watch.Identity{}); err == nil {
			t.Errorf("%s is watched", path)
		}
	}
	if err := w.Add(1, "link", watch.Identity{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a symbolic link: %v", err)
	}
	if err := w.Add(1, "sub", watch.Identity{Volume: 1, File: 2}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another directory than the one meant: %v", err)
	}
	var st syscall.Stat_t
	try(t, syscall.Stat(filepath.Join(dir, "sub"), &st))
	try(t, w.Add(1, "sub", watch.Identity{Volume: st.Dev, File: st.Ino}))
}

func TestAnOverflowIsTold(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil || len(b) > 6 {
		testenv.Skip(t, testenv.Limit, "the host's queue is too long to fill: %s %v", b, err)
	}
	dir := t.TempDir()
	w, err := watch.Open(dir)
	try(t, err)
	defer w.Close()
	try(t, w.Add(0, "", watch.Identity{}))
	names := [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	write(t, names[0], "")
	for i := range 20000 { // two events each, none of which can be merged
		try(t, os.Rename(names[i%2], names[(i+1)%2]))
	}
	for {
		events, err := w.Next()
		try(t, err)
		for _, e := range events {
			if e.Op&watch.Lost != 0 {
				return
			}
		}
	}
}
