// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// lookup has the guest look a path up and keep the fids, as Linux keeps one
// of each name that it has cached.
func (s *share) lookup(names ...string) []*p9client.FID {
	s.t.Helper()
	var fids []*p9client.FID
	at := s.guest
	for _, name := range names {
		f, err := at.Walk(name)
		s.ok(err)
		_, err = f.Getattr(p9.AttrAll)
		s.ok(err)
		fids = append(fids, f)
		at = f
	}
	return fids
}

// drop has the guest drop names from its cache, the last first.
func (s *share) drop(fids []*p9client.FID) {
	s.t.Helper()
	for _, f := range slices.Backward(fids) {
		s.ok(f.Clunk())
	}
}

// age lets what the host has made be older than what comes.
func age() { time.Sleep(50 * time.Millisecond) }

// cached says whether the guest is to cache a file that it opens.
func (s *share) cached(flags linux.OpenFlags, names ...string) bool {
	s.t.Helper()
	f, err := s.guest.Walk(names...)
	s.ok(err)
	s.ok(f.Open(flags))
	v := f.QID.Version
	s.ok(f.Clunk())
	return v != 0
}

func TestFilesInDirectoriesBeyondTheBoundAreNotCached(t *testing.T) {
	s := newShare(t, replay.Config{MaxDirs: 2})
	s.host("far/", "far/deep/", "far/f=one", "far/deep/f=one")
	age()
	d := s.lookup("d", "g")
	s.lookup("far", "f")
	s.lookup("far", "deep", "f")
	if st := s.tree.Stats(); st.Dirs != 2 || st.Untracked == 0 {
		t.Errorf("stats are %+v", st)
	}
	if !s.cached(linux.ORdonly, "d", "g") {
		t.Error("a file in a directory that is followed is not cached")
	}
	for _, path := range [][]string{{"far", "f"}, {"far", "deep", "f"}} {
		if s.cached(linux.ORdonly, path...) || s.cached(linux.ORdwr, path...) {
			t.Errorf("%v is cached, and the guest will not hear of changes", path)
		}
	}
	c, err := s.guest.Walk("far")
	s.ok(err)
	s.ok(c.Create("made", linux.ORdwr|linux.OCreate, 0o644, 0))
	if c.QID.Version != 0 {
		t.Error("a file that the guest makes there is cached")
	}
	if n, err := c.WriteAt([]byte("x"), 0); n != 1 || err != nil {
		t.Errorf("writing it: %d, %v", n, err)
	}
	s.ok(c.Clunk())
	s.drop(d) // which makes room
	s.lookup("far", "f")
	if !s.cached(linux.ORdonly, "far", "f") {
		t.Error("a directory that was found again when there was room is not followed")
	}
}

func TestEveryDirectoryThatTheGuestHasAFidOfIsFollowed(t *testing.T) {
	s := newShare(t, replay.Config{MaxIdleDirs: 2})
	var want []string
	for i := range 20 {
		name := fmt.Sprint("n", i)
		s.host(name+"/", name+"/f=one")
		s.lookup(name, "f")
	}
	for i := range 20 {
		s.host(fmt.Sprintf("n%d/f=longer", i))
		s.note(fmt.Sprint("n", i), "f", watch.Modify|watch.Close)
		want = append(want, fmt.Sprintf("modify n%d/f 6", i))
	}
	s.wants(want, nil)
	if st := s.tree.Stats(); st.Untracked != 0 {
		t.Errorf("stats are %+v", st)
	}
}

// What the guest has dropped is forgotten, but its kernel may keep a file's
// pages longer than the file's name.
func TestAFileThatTheHostWroteWhileItWasForgottenIsTold(t *testing.T) {
	s := newShare(t, replay.Config{MaxIdleDirs: 1})
	s.host("a/", "b/", "c/", "a/f=one", "a/same=one")
	age()
	for _, name := range []string{"a", "b", "c"} {
		path := []string{name}
		if name == "a" {
			s.drop(s.lookup("a", "same"))
			path = append(path, "f")
		}
		s.drop(s.lookup(path...))
	}
	s.lookup("d")
	s.mu.Lock()
	if _, ok := s.ids["a"]; ok {
		t.Error("a directory that the guest dropped first is still watched")
	}
	if _, ok := s.ids["c"]; !ok {
		t.Error("the directory that it dropped last is not watched")
	}
	s.mu.Unlock()
	s.host("a/f=longer") // nobody watches
	s.host("new/", "new/f=one")
	if s.drop(s.lookup("new", "f")); !s.cached(linux.ORdonly, "new", "f") {
		t.Error("a file is not cached that the guest has not seen before")
	}
	s.lookup("a", "f")
	s.lookup("a", "same")
	if s.cached(linux.ORdonly, "a", "f") {
		t.Error("the guest would read the pages that it has")
	}
	if !s.cached(linux.ORdonly, "a", "same") {
		t.Error("a file that nobody changed is not cached")
	}
	time.Sleep(100 * time.Millisecond) // it is not being written
	s.wants([]string{"modify a/f 6"}, func() { s.ok(s.size(6, "a", "f")) })
	if !s.cached(linux.ORdonly, "a", "f") {
		t.Error("what the guest was told is not cached")
	}
}

// all plans until nothing is left and returns what was told.
func (s *share) all() []string {
	s.t.Helper()
	var all []string
	for {
		steps, lines := s.plan()
		if len(steps) == 0 {
			slices.Sort(all)
			return all
		}
		all = append(all, lines...)
		for _, st := range steps {
			s.take(st)
		}
		s.tree.Finish(steps, make([]linux.Errno, len(steps)))
	}
}

// take does what the agent does.
func (s *share) take(st *replay.Step) {
	s.t.Helper()
	dir := s.agent
	if st.Dir != "" {
		d, err := s.agent.Walk(st.Dir) // one level is enough here
		s.ok(err)
		dir = d
	}
	switch st.Kind {
	case replay.Create:
		s.ok(s.symlink(dir, st.Name))
	case replay.Remove:
		s.ok(s.unlink(dir, st.Name, 0))
	case replay.Modify, replay.Attrib:
		f, err := dir.Walk(st.Name)
		s.ok(err)
		set := p9.SetAttr{Valid: p9.SetMtime}
		if st.Kind == replay.Modify {
			set = p9.SetAttr{Valid: p9.SetSize, Size: st.Size}
		}
		s.ok(f.Setattr(set))
	}
}

func TestDirectoriesWithoutWatchesAreCompared(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	s.host("a/", "a/f=one", "a/gone=one", "a/mode=one", "a/old=one")
	age()
	s.lookup("a", "f")
	s.lookup("a", "gone")
	s.lookup("a", "mode")
	if st := s.tree.Stats(); st.Unwatched != 1 {
		t.Fatalf("stats are %+v", st)
	}
	s.tree.Poll()
	if got := s.all(); len(got) != 0 {
		t.Errorf("nothing has changed, and the guest is told %v", got)
	}
	s.host("a/f=longer", "a/new=x")
	s.hostRemove("a/gone", 0)
	n, name := s.at("a/mode")
	c, e := n.Walk(name)
	if e == 0 {
		e = c.Setattr(&p9.SetAttr{Valid: p9.SetMode, Mode: 0o600}, nil)
	}
	if e != 0 {
		t.Fatal(e)
	}
	s.tree.Poll()
	want := []string{"attrib a/mode", "create a/new", "modify a/f 6", "modify a/new 1", "remove a/gone"}
	if diff := cmp.Diff(want, s.all()); diff != "" {
		t.Error(diff)
	}
	s.tree.Poll()
	if got := s.all(); len(got) != 0 {
		t.Errorf("told once, and told again: %v", got)
	}
}

func TestWatchesThatAreThereAgainAreTaken(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	s.host("a/", "a/f=one", "b/", "b/f=one")
	s.lookup("a", "f")
	s.lookup("b", "f")
	s.host("a/f=longer")
	s.mu.Lock()
	s.full = false
	s.mu.Unlock()
	s.tree.Poll()
	if diff := cmp.Diff([]string{"modify a/f 6"}, s.all()); diff != "" {
		t.Errorf("what happened before the watch: %s", diff)
	}
	if st := s.tree.Stats(); st.Unwatched != 0 {
		t.Errorf("stats are %+v", st)
	}
	s.host("b/f=longer")
	s.note("b", "f", watch.Modify|watch.Close)
	if diff := cmp.Diff([]string{"modify b/f 6"}, s.all()); diff != "" {
		t.Error(diff)
	}
}

// One round compares some thousands of names; what is left is compared in the
// rounds after it.
func TestComparingTakesTurns(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	const dirs, files = 3, 2100
	for d := range dirs {
		name := fmt.Sprint("n", d)
		s.host(name + "/")
		s.lookup(name)
		for f := range files {
			s.host(fmt.Sprintf("%s/%d=x", name, f))
			s.lookup(name, fmt.Sprint(f))
		}
	}
	var told []string
	for d := range dirs {
		s.host(fmt.Sprintf("n%d/7=longer", d))
	}
	for round := range dirs {
		s.tree.Poll()
		told = append(told, s.all()...)
		if round == 0 && len(told) >= dirs {
			t.Errorf("one round compared all: %v", told)
		}
	}
	if len(told) != dirs {
		t.Errorf("after %d rounds told are %v", dirs, told)
	}
}
