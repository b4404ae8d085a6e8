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
			told <- filepath.Join(st.Dir, st.Name)
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
