// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// followedDir is a host directory that a guest follows; told are the changes
// that the guest is told of.
func followedDir(t *testing.T, budget *watchBudget) (dir string, r *replayer, told chan string) {
	t.Helper()
	dir, told = t.TempDir(), make(chan string, 100)
	fs, err := hostfs.Open(hostfs.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	root := fs.Root()
	r, err = newReplayer(dir, budget, replay.Config{Root: root}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
		root.Release()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	r.start(func(_ context.Context, steps []*replay.Step) ([]linux.Errno, error) {
		out := make([]linux.Errno, len(steps))
		for _, st := range steps {
			select {
			case told <- filepath.Join(st.Dir, st.Name):
			default: // enough is enough
			}
		}
		return out, nil
	})
	return dir, r, told
}

// lookInto has the guest look a directory and its file f up. The nodes are
// held until the test ends.
func lookInto(t *testing.T, r *replayer, dir string) {
	t.Helper()
	root, e := r.tree.Attach(p9srv.Attach{})
	if e != 0 {
		t.Fatal(e)
	}
	at := root
	for _, name := range []string{dir, "f"} {
		next, e := at.Walk(name)
		at.Release()
		if e != 0 {
			t.Fatal(e)
		}
		var a p9.Attr
		if e := next.Getattr(p9.AttrAll, &a); e != 0 {
			t.Fatal(e)
		}
		at = next
	}
	t.Cleanup(at.Release)
}

func TestAMachineTakesAPartOfTheHostsWatches(t *testing.T) {
	for host, want := range map[int]int{0: 0, 100: 100, 8192: 2048, 65536: 16384, 1 << 20: 1 << 18} {
		if got := watchesPart(host); got != want {
			t.Errorf("of %d a machine takes %d, want %d", host, got, want)
		}
	}
	budget := &watchBudget{limit: 4, known: true}
	dir, r, told := followedDir(t, budget)
	_, other, _ := followedDir(t, budget)
	var unwatched string
	for i := range 6 {
		name := fmt.Sprint("d", i)
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		lookInto(t, r, name)
		unwatched = name
	}
	// Two roots and two directories.
	if st := r.tree.Stats(); st.Unwatched != 4 || st.Untracked != 0 {
		t.Errorf("stats are %+v", st)
	}
	for len(told) > 0 {
		<-told
	}
	if err := os.WriteFile(filepath.Join(dir, unwatched, "f"), []byte("longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-told:
		if want := filepath.Join(unwatched, "f"); got != want {
			t.Errorf("told is %s, want %s", got, want)
		}
	case <-time.After(5 * pollEvery):
		t.Error("a change in a directory without a watch does not arrive")
	}
	// What another share gives back is taken.
	if err := other.close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * pollEvery)
	for r.tree.Stats().Unwatched != 3 {
		if time.Now().After(deadline) {
			t.Fatalf("a watch that was given back is not taken: %+v", r.tree.Stats())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// None of them is where the guest looks. Test/e2e quiet.txt makes ten times as many
// beside a container.
func TestFilesThatNobodyLooksAtCostTheGuestNothing(t *testing.T) {
	dir, r, told := followedDir(t, new(watchBudget))
	for _, name := range []string{"looked", "quiet"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "looked", "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lookInto(t, r, "looked")
	settle(t, r)
	for len(told) > 0 {
		<-told
	}
	before := r.tree.Stats()
	for i := range 30 {
		sub := filepath.Join(dir, "quiet", fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for k := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(k)), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(t, r)
	if after := r.tree.Stats(); after != before || len(told) > 0 {
		t.Errorf("after 3,000 files the tree's stats are %+v, were %+v, %d changes were told", after, before, len(told))
	}
	if err := os.WriteFile(filepath.Join(dir, "looked", "f"), []byte("longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-told:
		if got != "looked/f" {
			t.Errorf("told is %s first", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing is told any more")
	}
}

// settle waits until what the host did has been told.
func settle(t *testing.T, r *replayer) {
	t.Helper()
	for last, still := r.tree.Stats(), 0; still < 5; still++ {
		time.Sleep(100 * time.Millisecond)
		if now := r.tree.Stats(); now != last {
			last, still = now, 0
		}
	}
}

func TestAMachineMayBeGrantedFewerWatches(t *testing.T) {
	for limit, want := range map[int]int{-1: 0, 1: 1, 3: 3} {
		var b watchBudget
		b.limitTo(limit)
		got := 0
		for got < 10 && b.take() {
			got++
		}
		if got != want {
			t.Errorf("with a limit of %d a machine takes %d", limit, got)
		}
	}
	part := watchBudget{}
	if part.limitTo(0); !part.take() || part.limit != watchesPart(watch.Limit()) {
		t.Errorf("without a limit a machine's part is %d", part.limit)
	}
}
