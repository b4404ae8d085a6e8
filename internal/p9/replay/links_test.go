// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// hostLink gives a file another name.
func (s *share) hostLink(from, to string) {
	s.t.Helper()
	n, name := s.at(from)
	file, e := n.Walk(name)
	if e == 0 {
		m, newName := s.at(to)
		e = m.Link(file, newName)
	}
	if e != 0 {
		s.t.Fatalf("link %s: %v", from, e)
	}
}

// linked is a share in which f is also d/link.
func linked(t *testing.T) *share {
	s := newShare(t, replay.Config{})
	s.hostLink("f", "d/link")
	age()
	s.lookup("f")
	s.lookup("d", "link")
	for _, path := range [][]string{{"f"}, {"d", "link"}} {
		if !s.cached(linux.ORdonly, path...) {
			t.Errorf("%v, which nobody writes, is not cached", path)
		}
	}
	return s
}

func TestAFileWrittenUnderANameThatIsNotWatchedIsOpenedUncached(t *testing.T) {
	s := linked(t)
	s.host("elsewhere/")
	s.hostLink("f", "elsewhere/f")
	s.host("elsewhere/f=longer") // of which nothing is told
	if s.cached(linux.ORdonly, "f") {
		t.Error("the guest would read what it has cached of the file")
	}
	if s.cached(linux.ORdwr|linux.OAppend, "f") {
		t.Error("the guest would append at the old size")
	}
	if diff := cmp.Diff([]string{"modify /f 6"}, s.all()); diff != "" {
		t.Error(diff)
	}
	for _, path := range [][]string{{"f"}, {"d", "link"}} {
		if !s.cached(linux.ORdonly, path...) {
			t.Errorf("%v is not cached, of which the guest was told", path)
		}
	}
}

func TestWhatIsToldUnderOneNameIsKnownUnderAll(t *testing.T) {
	s := linked(t)
	s.host("f=longer")
	s.note("", "f", watch.Modify|watch.Close)
	if diff := cmp.Diff([]string{"modify /f 6"}, s.all()); diff != "" {
		t.Error(diff)
	}
	if !s.cached(linux.ORdonly, "d", "link") {
		t.Error("told under one name, and not cached under the other")
	}
	if got := s.all(); len(got) != 0 {
		t.Errorf("told under one name, and under the other too: %v", got)
	}
}

func TestWhatTheGuestWritesUnderOneNameIsItsOwnUnderAll(t *testing.T) {
	s := linked(t)
	w, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(w.Open(linux.OWronly))
	_, err = w.WriteAt([]byte("written by the guest"), 0)
	s.ok(err)
	if !s.cached(linux.ORdonly, "d", "link") {
		t.Error("being written by the guest, and not cached")
	}
	s.ok(w.Clunk())
	if !s.cached(linux.ORdonly, "d", "link") {
		t.Error("the guest's own contents are not cached")
	}
	s.noteAll(watch.Event{Op: watch.Lost})
	if got := s.all(); len(got) != 0 {
		t.Errorf("the guest is told of its own change: %v", got)
	}
}

// As one that a program of the host has written through a mapping.
func TestAChangeThatNobodyTellsOfIsFoundByOpening(t *testing.T) {
	s := newShare(t, replay.Config{})
	age()
	s.lookup("f")
	s.host("f=longer")
	if s.cached(linux.ORdonly, "f") {
		t.Error("the guest would read what it has cached")
	}
	if diff := cmp.Diff([]string{"modify /f 6"}, s.all()); diff != "" {
		t.Error(diff)
	}
	if !s.cached(linux.ORdonly, "f") {
		t.Error("what the guest was told is not cached")
	}
}

func TestARenameBetweenNamesOfOneFileMovesNothing(t *testing.T) {
	s := newShare(t, replay.Config{})
	root, call := s.guest.Num(), s.guest.Client().Call
	f, err := s.guest.Walk()
	s.ok(err)
	s.ok(f.Create("a", linux.ORdwr|linux.OCreate, 0o644, 0))
	s.ok(call(&p9.Tlink{DirFID: root, FID: f.Num(), Name: "b"}, &p9.Rlink{}))
	s.ok(f.Clunk())
	s.ok(call(&p9.Trenameat{OldDirFID: root, OldName: "a", NewDirFID: root, NewName: "b"}, &p9.Rrenameat{}))
	s.ok(errOf(s.guest.Walk("a")))
	// The host is slow to tell.
	s.note("", "a", watch.Create|watch.Modify|watch.Close)
	s.note("", "b", watch.Create|watch.Attrib)
	if got := s.all(); len(got) != 0 {
		t.Errorf("nothing moved, and the guest is told %v", got)
	}
}

// The host tells late, when the file has lost the name that the guest took away.
func TestANameThatTheGuestTakesAwayChangesNoOther(t *testing.T) {
	for name, remove := range map[string]func(root *p9client.FID) error{
		"unlink":      func(root *p9client.FID) error { return root.Unlinkat("b", 0) },
		"rename over": func(root *p9client.FID) error { return root.Renameat("f", root, "b") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShare(t, replay.Config{})
			f, err := s.guest.Walk()
			s.ok(err)
			s.ok(f.Create("a", linux.ORdwr|linux.OCreate, 0o644, 0))
			s.ok(s.guest.Link(f, "b"))
			s.ok(f.Clunk())
			s.lookup("f")
			age()
			s.ok(remove(s.guest))
			s.note("", "a", watch.Create|watch.Attrib|watch.Modify|watch.Close)
			if got := s.all(); len(got) != 0 {
				t.Errorf("the guest is told of its own change: %v", got)
			}
		})
	}
}

func TestAttributesThatTheGuestSetsUnderOneNameAreItsOwnUnderAll(t *testing.T) {
	s := linked(t)
	f, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(f.Setattr(p9.SetAttr{Valid: p9.SetMode, Mode: 0o600}))
	s.note("d", "link", watch.Attrib)
	if got := s.all(); len(got) != 0 {
		t.Errorf("the guest is told of its own change: %v", got)
	}
	file, e := s.root.Walk("f")
	if e == 0 {
		e = file.Setattr(&p9.SetAttr{Valid: p9.SetMode, Mode: 0o640}, nil)
	}
	if e != 0 {
		t.Fatal(e)
	}
	s.note("d", "link", watch.Attrib)
	if diff := cmp.Diff([]string{"attrib d/link"}, s.all()); diff != "" {
		t.Error(diff)
	}
}

// The last of several names is still one that the guest knows all of.
func TestWhatTheGuestWroteUnderANameThatWentIsItsOwn(t *testing.T) {
	s := linked(t)
	w, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(w.Open(linux.OWronly))
	_, err = w.WriteAt([]byte("written by the guest"), 0)
	s.ok(err)
	s.ok(w.Clunk())
	s.ok(s.guest.Unlinkat("f", 0))
	s.noteAll(watch.Event{Op: watch.Lost})
	if got := s.all(); len(got) != 0 {
		t.Errorf("the guest is told of its own change: %v", got)
	}
}

// It is written through a handle that outlives the name it was opened by.
func TestWhatTheGuestWritesAfterANameWentIsItsOwn(t *testing.T) {
	s := linked(t)
	w, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(w.Open(linux.OWronly))
	s.ok(s.guest.Unlinkat("f", 0))
	_, err = w.WriteAt([]byte("written by the guest"), 0)
	s.ok(err)
	s.ok(w.Clunk())
	s.noteAll(watch.Event{Op: watch.Lost})
	if got := s.all(); len(got) != 0 {
		t.Errorf("the guest is told of its own change: %v", got)
	}
}
