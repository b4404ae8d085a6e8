// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// share is a tree in memory that "the host" changes through root and a guest
// through the server.
type share struct {
	t    *testing.T
	root p9srv.Node
	tree *replay.Tree
	// guest and agent are the roots of the two attaches.
	guest, agent *p9client.FID

	mu sync.Mutex
	// ids are the watched directories by path. Guarded by mu.
	ids map[string]watch.ID
	// full says that the host grants no more watches. Guarded by mu.
	full bool
}

// Add watches.
func (s *share) Add(id watch.ID, path string, _ p9srv.FileID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return linux.ENOSPC
	}
	s.ids[path] = id
	return nil
}

// Remove ends that.
func (s *share) Remove(id watch.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, i := range s.ids {
		if i == id {
			delete(s.ids, path)
		}
	}
}

func newShare(t *testing.T, cfg replay.Config) *share {
	t.Helper()
	s := &share{t: t, root: memfs.New().Root(), ids: map[string]watch.ID{}}
	s.host("d/", "f=one", "d/g=two")
	cfg.Root, cfg.Watcher = s.root, s
	s.tree = replay.New(cfg)
	ours, theirs := net.Pipe()
	var served sync.WaitGroup
	served.Go(func() {
		srv := &p9srv.Server{Root: s.root, Attach: s.tree.Attach}
		if err := srv.Serve(context.Background(), ours); err != nil {
			t.Error(err)
		}
	})
	c, err := p9client.New(theirs, 1<<16)
	s.ok(err)
	t.Cleanup(func() {
		c.Close()
		served.Wait()
		s.tree.Close()
	})
	s.guest, err = c.Attach("", 0)
	s.ok(err)
	s.agent, err = c.Attach("", replay.UID)
	s.ok(err)
	return s
}

func (s *share) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// fails checks that an error is the one wanted.
func (s *share) fails(err error, want linux.Errno) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("error %v, want %v", err, want)
	}
}

// at returns the node in the host's tree that holds a path's last name.
func (s *share) at(path string) (p9srv.Node, string) {
	s.t.Helper()
	n := s.root
	for i := 0; i < len(path); i++ {
		if path[i] == '/' {
			c, e := n.Walk(path[:i])
			if e != 0 {
				s.t.Fatalf("walk to %s: %v", path, e)
			}
			n, path, i = c, path[i+1:], -1
		}
	}
	return n, path
}

// host makes directories ("a/") and files ("a=contents") as the host would.
func (s *share) host(what ...string) {
	s.t.Helper()
	for _, w := range what {
		if w[len(w)-1] == '/' {
			n, name := s.at(w[:len(w)-1])
			if _, e := n.Mkdir(name, 0o755, p9srv.Owner{}); e != 0 {
				s.t.Fatalf("mkdir %s: %v", w, e)
			}
			continue
		}
		var path, data string
		for i := range w {
			if w[i] == '=' {
				path, data = w[:i], w[i+1:]
			}
		}
		n, name := s.at(path)
		_, f, e := n.Create(name, linux.ORdwr|linux.OTrunc, 0o644, p9srv.Owner{})
		if e == 0 {
			_, e = f.Write([]byte(data), 0)
			f.Close()
		}
		if e != 0 {
			s.t.Fatalf("write %s: %v", w, e)
		}
	}
}

func (s *share) hostRemove(path string, flags uint32) {
	s.t.Helper()
	n, name := s.at(path)
	if e := n.Unlinkat(name, flags); e != 0 {
		s.t.Fatalf("remove %s: %v", path, e)
	}
}

func (s *share) hostRename(from, to string) {
	s.t.Helper()
	n, name := s.at(from)
	m, newName := s.at(to)
	if e := n.Renameat(name, m, newName, 0); e != 0 {
		s.t.Fatalf("rename %s: %v", from, e)
	}
}

// note tells of an event in the directory at a path.
func (s *share) note(dir, name string, op watch.Op) {
	s.noteAll(watch.Event{Dir: s.id(dir), Name: name, Op: op})
}

func (s *share) noteAll(e ...watch.Event) { s.tree.Note(e) }

func (s *share) id(dir string) watch.ID {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.ids[dir]
	if !ok {
		s.t.Fatalf("%q is not watched", dir)
	}
	return id
}

// know has the guest look paths up, as Linux does.
func (s *share) know(paths ...[]string) {
	s.t.Helper()
	for _, p := range paths {
		f, err := s.guest.Walk(p...)
		s.ok(err)
		_, err = f.Getattr(p9.AttrAll)
		s.ok(err)
	}
}

// plan plans and shows the steps.
func (s *share) plan() ([]*replay.Step, []string) {
	steps := s.tree.Plan(100)
	var all []string
	for _, st := range steps {
		line := [...]string{"create", "remove", "rename", "modify", "attrib"}[st.Kind] + " " + st.Dir + "/" + st.Name
		switch {
		case st.Kind == replay.Rename:
			line += " " + st.ToDir + "/" + st.ToName
		case st.Kind == replay.Modify:
			line += fmt.Sprint(" ", st.Size)
		}
		if st.IsDir {
			line += " dir"
		}
		all = append(all, line)
	}
	return steps, all
}

// wants plans, compares, and takes the steps with take before it finishes.
func (s *share) wants(want []string, take func()) {
	s.t.Helper()
	steps, got := s.plan()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Fatal(diff)
	}
	if take != nil {
		take()
	}
	s.tree.Finish(steps, make([]linux.Errno, len(steps)))
}

func (s *share) call(req, reply p9.Message) error { return s.agent.Client().Call(req, reply) }

// symlink is what the agent makes of a created file.
func (s *share) symlink(dir *p9client.FID, name string) error {
	return s.call(&p9.Tsymlink{FID: dir.Num(), Name: name, Target: "."}, &p9.Rsymlink{})
}

func (s *share) unlink(dir *p9client.FID, name string, flags uint32) error {
	return s.call(&p9.Tunlinkat{DirFID: dir.Num(), Name: name, Flags: flags}, &p9.Runlinkat{})
}

func TestACreatedFileIsHiddenUntilItIsTold(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.host("new=x")
	s.note("", "new", watch.Create)
	s.wants([]string{"create /new"}, func() {
		if _, err := s.guest.Walk("new"); err != nil {
			t.Errorf("the guest does not find it: %v", err)
		}
		_, err := s.agent.Walk("new")
		s.fails(err, linux.ENOENT)
		s.ok(s.symlink(s.agent, "new"))
		if _, err := s.agent.Walk("new"); err != nil {
			t.Errorf("told, and the agent does not find it: %v", err)
		}
		s.fails(s.symlink(s.agent, "new"), linux.EPERM)
	})
	s.wants(nil, nil)
	s.host("e/")
	s.note("", "e", watch.Create)
	s.wants([]string{"create /e dir"}, func() {
		s.fails(s.symlink(s.agent, "e"), linux.EPERM)
		var r p9.Rmkdir
		s.ok(s.call(&p9.Tmkdir{DirFID: s.agent.Num(), Name: "e", Mode: 0o755}, &r))
	})
	if _, ok := s.ids["e"]; ok {
		t.Error("a directory is watched that the guest has not looked into")
	}
}

func TestWhatWentIsAGhostUntilItIsTold(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"}, []string{"d", "g"})
	s.hostRemove("d/g", 0)
	s.hostRemove("d", linux.AtRemovedir)
	s.hostRemove("f", 0)
	s.note("d", "g", watch.Remove)
	s.note("", "d", watch.Remove)
	s.note("", "f", watch.Remove)
	s.wants([]string{"remove d/g", "remove /d dir", "remove /f"}, func() {
		d, err := s.agent.Walk("d")
		s.ok(err)
		g, err := s.agent.Walk("d", "g")
		s.ok(err)
		if a, err := g.Getattr(p9.AttrAll); err != nil || a.Size != 3 || a.Mode.IsDir() {
			t.Errorf("the ghost is %+v, %v", a, err)
		}
		s.ok(s.unlink(d, "g", 0))
		s.ok(s.unlink(s.agent, "d", linux.AtRemovedir))
		s.ok(s.unlink(s.agent, "f", 0))
		_, err = s.agent.Walk("f")
		s.fails(err, linux.ENOENT)
		s.fails(s.unlink(s.agent, "f", 0), linux.EPERM)
	})
	if len(s.ids) != 1 {
		t.Errorf("watched are %v, want the root alone", s.ids)
	}
}

func TestARenameMovesOneNameToTheOther(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"}, []string{"d", "g"})
	s.hostRename("f", "d/g")
	s.noteAll(watch.Event{Dir: s.id(""), Name: "f", Op: watch.Rename, ToDir: s.id("d"), To: "g"})
	s.wants([]string{"rename /f d/g"}, func() {
		f, err := s.agent.Walk("f")
		s.ok(err)
		if a, err := f.Getattr(p9.AttrAll); err != nil || a.Size != 3 {
			t.Errorf("f is %+v, %v", a, err)
		}
		_, err = s.agent.Walk("d", "g")
		s.fails(err, linux.ENOENT)
		d, err := s.agent.Walk("d")
		s.ok(err)
		s.fails(s.call(&p9.Trenameat{OldDirFID: s.agent.Num(), OldName: "f", NewDirFID: d.Num(), NewName: "h"}, &p9.Rrenameat{}), linux.EPERM)
		s.ok(s.call(&p9.Trenameat{OldDirFID: s.agent.Num(), OldName: "f", NewDirFID: d.Num(), NewName: "g"}, &p9.Rrenameat{}))
		_, err = s.agent.Walk("f")
		s.fails(err, linux.ENOENT)
	})
	s.wants(nil, nil)
}

func TestADirectoryKeepsItsNamesWhenItMoves(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"d", "g"})
	id := s.id("d")
	s.hostRename("d", "e")
	s.host("e/g=changed")
	s.noteAll(
		watch.Event{Name: "d", Op: watch.Rename, To: "e", IsDir: true},
		watch.Event{Dir: id, Name: "g", Op: watch.Modify | watch.Close})
	s.wants([]string{"rename /d /e dir", "modify d/g 7"}, func() {
		s.ok(s.call(&p9.Trenameat{OldDirFID: s.agent.Num(), OldName: "d", NewDirFID: s.agent.Num(), NewName: "e"}, &p9.Rrenameat{}))
	})
}

// size sets a size as the agent does.
func (s *share) size(n uint64, names ...string) error {
	f, err := s.agent.Walk(names...)
	s.ok(err)
	return f.Setattr(p9.SetAttr{Valid: p9.SetSize, Size: n})
}

func TestASizeIsTakenOnlyIfItIsTheSizeThereIs(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	s.host("f=longer")
	s.note("", "f", watch.Modify|watch.Close)
	s.wants([]string{"modify /f 6"}, func() {
		s.fails(s.size(3, "f"), linux.EAGAIN)
		s.ok(s.size(6, "f"))
	})
	s.host("f=longer still")
	s.note("", "f", watch.Modify|watch.Close)
	s.wants([]string{"modify /f 12"}, func() {
		f, err := s.agent.Walk("f")
		s.ok(err)
		s.ok(f.Open(linux.ORdwr))
		_, err = f.WriteAt([]byte{0}, 10)
		s.fails(err, linux.EPERM)
		s.host("f=longer stillnes")
		_, err = f.WriteAt([]byte{0}, 11)
		s.fails(err, linux.ESTALE) // netfs would repeat it at EAGAIN, without end
		s.host("f=longer still")
		n, err := f.WriteAt([]byte{0}, 11)
		if n != 1 || err != nil {
			t.Errorf("the write that tells the size: %d, %v", n, err)
		}
	})
	got := make([]byte, 20)
	f, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(f.Open(linux.ORdonly))
	if n, _ := f.ReadAt(got, 0); string(got[:n]) != "longer still" {
		t.Errorf("the agent changed the file to %q", got[:n])
	}
}

// The guest's kernel may write what a process wrote through any handle, and
// through the agent's after the process has closed its own.
func TestWhatAProcessWroteIsWrittenThroughTheAgentsHandle(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	s.host("f=longer")
	s.note("", "f", watch.Modify|watch.Close)
	s.wants([]string{"modify /f 6"}, func() {
		f, err := s.agent.Walk("f")
		s.ok(err)
		s.ok(f.Open(linux.OWronly))
		s.ok(s.size(6, "f"))
		if n, err := f.WriteAt([]byte("page"), 0); n != 4 || err != nil {
			t.Errorf("a process's page: %d, %v", n, err)
		}
		s.ok(f.Clunk())
	})
	f, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(f.Open(linux.ORdonly))
	got := make([]byte, 20)
	if n, _ := f.ReadAt(got, 0); string(got[:n]) != "pageer" {
		t.Errorf("the file holds %q", got[:n])
	}
}

func TestAFileThatTheGuestWritesIsLeftAloneUntilItIsClosed(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	steps := []string{"modify /f 6"}
	s.host("f=longer")
	s.note("", "f", watch.Modify|watch.Close)
	w, err := s.guest.Walk("f")
	s.ok(err)
	s.wants(steps, func() {
		s.ok(w.Open(linux.ORdwr)) // between the plan and its taking
		s.fails(s.size(6, "f"), linux.EBUSY)
	})
	s.note("", "f", watch.Modify|watch.Close)
	s.wants(nil, nil)
	s.ok(w.Clunk())
	s.wants(steps, func() { s.ok(s.size(6, "f")) })
}

func TestTheGuestIsNotToldOfItsOwnChanges(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"d", "g"}, []string{"f"})
	d, err := s.guest.Walk("d")
	s.ok(err)
	c, err := s.guest.Walk()
	s.ok(err)
	s.ok(c.Create("made", linux.ORdwr|linux.OCreate, 0o644, 0))
	_, err = c.WriteAt([]byte("12345"), 0)
	s.ok(err)
	s.note("", "made", watch.Create|watch.Modify)
	s.wants(nil, nil)
	s.ok(c.Clunk())
	s.note("", "made", watch.Modify|watch.Close)
	root := s.guest.Num()
	call := s.guest.Client().Call
	s.ok(call(&p9.Tmkdir{DirFID: root, Name: "sub", Mode: 0o755}, &p9.Rmkdir{}))
	s.note("", "sub", watch.Create)
	s.ok(call(&p9.Tsymlink{FID: root, Name: "link", Target: "f"}, &p9.Rsymlink{}))
	s.note("", "link", watch.Create)
	s.ok(call(&p9.Trenameat{OldDirFID: root, OldName: "made", NewDirFID: d.Num(), NewName: "g"}, &p9.Rrenameat{}))
	s.noteAll(watch.Event{Name: "made", Op: watch.Rename, ToDir: s.id("d"), To: "g"})
	f, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(f.Setattr(p9.SetAttr{Valid: p9.SetMode | p9.SetSize, Mode: 0o600, Size: 1}))
	s.note("", "f", watch.Attrib|watch.Modify)
	s.wants(nil, nil)
	s.ok(call(&p9.Tunlinkat{DirFID: root, Name: "f"}, &p9.Runlinkat{}))
	s.note("", "f", watch.Remove)
	s.ok(call(&p9.Tunlinkat{DirFID: root, Name: "sub", Flags: linux.AtRemovedir}, &p9.Runlinkat{}))
	s.note("", "sub", watch.Remove)
	s.noteAll(watch.Event{Name: "tmp", Op: watch.Attrib})
	s.wants(nil, nil)
	s.noteAll(watch.Event{Op: watch.Lost})
	s.wants(nil, nil)
}

func TestAChangeOfTheHostsBehindAChangeOfTheGuestsIsTold(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	s.host("f=longer")
	f, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(f.Setattr(p9.SetAttr{Valid: p9.SetMode, Mode: 0o600}))
	s.note("", "f", watch.Modify|watch.Close|watch.Attrib)
	s.wants([]string{"modify /f 6"}, nil)
	s.host("d/g=longer")
	s.know([]string{"d"})
}

func TestAFileThatWasReplacedIsRemovedAndMade(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	s.hostRemove("f", 0)
	s.host("f=another")
	s.note("", "f", watch.Remove)
	s.note("", "f", watch.Create|watch.Modify|watch.Close)
	s.wants([]string{"remove /f", "create /f", "modify /f 7"}, func() {
		s.ok(s.unlink(s.agent, "f", 0))
		s.ok(s.symlink(s.agent, "f"))
		s.ok(s.size(7, "f"))
	})
	s.wants(nil, nil)
}

func TestLostEventsAreFoundByComparing(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.host("old=x")
	s.know([]string{"f"}, []string{"d", "g"}, []string{"old"})
	s.host("f=longer", "d/young=x")
	s.hostRemove("old", 0)
	s.noteAll(watch.Event{Op: watch.Lost})
	_, got := s.plan()
	want := map[string]bool{"modify /f 6": true, "create d/young": true, "modify d/young 1": true, "remove /old": true}
	for _, line := range got {
		if !want[line] {
			t.Errorf("unexpected: %s", line)
		}
		delete(want, line)
	}
	for line := range want {
		t.Errorf("missing: %s", line)
	}
}

func TestNothingHappensThatWasNotAnnounced(t *testing.T) {
	s := newShare(t, replay.Config{})
	a := s.agent.Num()
	f, err := s.agent.Walk("f")
	s.ok(err)
	for _, m := range []struct{ req, reply p9.Message }{
		{&p9.Tmkdir{DirFID: a, Name: "x", Mode: 0o755}, &p9.Rmkdir{}},
		{&p9.Tsymlink{FID: a, Name: "x", Target: "y"}, &p9.Rsymlink{}},
		{&p9.Tmknod{FID: a, Name: "x", Mode: linux.TypeRegular | 0o644}, &p9.Rmknod{}},
		{&p9.Tlink{DirFID: a, FID: f.Num(), Name: "x"}, &p9.Rlink{}},
		{&p9.Tunlinkat{DirFID: a, Name: "f"}, &p9.Runlinkat{}},
		{&p9.Trenameat{OldDirFID: a, OldName: "f", NewDirFID: a, NewName: "x"}, &p9.Rrenameat{}},
		{&p9.Trename{FID: f.Num(), DirFID: a, Name: "x"}, &p9.Rrename{}},
		{&p9.Tsetattr{FID: f.Num(), SetAttr: p9.SetAttr{Valid: p9.SetSize}}, &p9.Rsetattr{}},
		{&p9.Tsetattr{FID: f.Num(), SetAttr: p9.SetAttr{Valid: p9.SetMode}}, &p9.Rsetattr{}},
		{&p9.Tlopen{FID: f.Num(), Flags: linux.ORdwr}, &p9.Rlopen{}},
		{&p9.Tremove{FID: f.Num()}, &p9.Rremove{}},
	} {
		s.fails(s.call(m.req, m.reply), linux.EPERM)
	}
	c, err := s.agent.Walk()
	s.ok(err)
	s.fails(c.Create("x", linux.ORdwr|linux.OCreate, 0o644, 0), linux.EPERM)
	s.fails(errOf(s.guest.Walk("x")), linux.ENOENT)
	s.ok(errOf(s.guest.Walk("f")))
}

func errOf(_ *p9client.FID, err error) error { return err }

func TestAnnouncedChangesTouchNothing(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	s.host("f=longer")
	s.note("", "f", watch.Modify|watch.Close)
	s.wants([]string{"modify /f 6"}, func() {
		f, err := s.agent.Walk("f")
		s.ok(err)
		s.ok(f.Setattr(p9.SetAttr{Valid: p9.SetMode | p9.SetMtime, Mode: 0}))
		s.fails(s.unlink(s.agent, "f", 0), linux.EPERM)
	})
	f, err := s.guest.Walk("f")
	s.ok(err)
	if a, err := f.Getattr(p9.AttrAll); err != nil || a.Mode.Perm() != 0o644 || a.Size != 6 {
		t.Errorf("the file is %+v, %v", a, err)
	}
}

func TestChangesOfBothSidesAtOnceLeaveNoHarm(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"d", "g"})
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 300 {
			name := fmt.Sprint("n", i%7)
			c, err := s.guest.Walk()
			s.ok(err)
			if c.Create(name, linux.ORdwr|linux.OCreate, 0o644, 0) == nil {
				_, _ = c.WriteAt([]byte("x"), int64(i))
			}
			s.ok(c.Clunk())
			s.tree.Note([]watch.Event{{Name: name, Op: watch.Create | watch.Modify}})
			if i%3 == 0 {
				_ = s.guest.Client().Call(&p9.Tunlinkat{DirFID: s.guest.Num(), Name: name}, &p9.Runlinkat{})
				s.tree.Note([]watch.Event{{Name: name, Op: watch.Remove}})
			}
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if steps := s.tree.Plan(10); len(steps) > 0 {
				t.Errorf("the guest would be told of %d %s %+v", steps[0].Kind, steps[0].Name, steps[0])
				s.tree.Finish(steps, nil)
			}
		}
	})
	wg.Wait()
}

func TestAFileReplacedBeforeItIsToldIsOpenedUncached(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	s.host("new=another")
	s.hostRename("new", "f")
	// As a client does that knows the name and has no fid of it.
	g, err := s.guest.Walk("f")
	s.ok(err)
	s.ok(g.Open(linux.ORdonly))
	if g.QID.Version != 0 {
		t.Errorf("version %d: the client caches one file as another", g.QID.Version)
	}
	b := make([]byte, 10)
	if n, err := g.ReadAt(b, 0); string(b[:n]) != "another" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	s.ok(g.Clunk())
	s.note("", "f", watch.Create)
	s.wants([]string{"remove /f", "create /f"}, nil)
}

func TestAFileThatTheGuestMadeInPlaceOfAnotherIsItsOwn(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.host("new=x")
	s.know([]string{"new"})
	s.note("", "new", watch.Create)
	steps, got := s.plan()
	if len(got) != 1 || got[0] != "create /new" || !steps[0].Known {
		t.Fatalf("planned: %v", got)
	}
	s.hostRemove("new", 0)
	own, err := s.guest.Walk()
	s.ok(err)
	s.ok(own.Create("new", linux.OCreate|linux.OWronly, 0o600, 0))
	f, err := s.agent.Walk("new")
	s.ok(err)
	s.fails(f.Setattr(p9.SetAttr{}), linux.ESTALE)
	s.fails(s.symlink(s.agent, "new"), linux.ESTALE)
	s.tree.Finish(steps, []linux.Errno{linux.ESTALE})
	s.ok(own.Clunk())
	s.wants(nil, nil)
}

func TestAFileWrittenBeforeItIsToldIsOpenedUncached(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"}, []string{"d", "g"})
	version := func(flags linux.OpenFlags, names ...string) uint32 {
		g, err := s.guest.Walk(names...)
		s.ok(err)
		s.ok(g.Open(flags))
		v := g.QID.Version
		s.ok(g.Clunk())
		return v
	}
	if version(linux.ORdonly, "f") == 0 {
		t.Error("a file that nobody has written is not cached")
	}
	s.host("f=written by the host")
	if version(linux.ORdonly, "f") != 0 {
		t.Error("the guest would cut the file off at its old size")
	}
	if version(linux.ORdwr|linux.OAppend, "f") != 0 {
		t.Error("the guest would append at its old size")
	}
	if version(linux.OWronly|linux.OTrunc, "f") == 0 {
		t.Error("what is overwritten as a whole is not cached")
	}
	s.host("d/g=written by the host")
	s.note("d", "g", watch.Modify|watch.Close)
	s.wants([]string{"modify /f 0", "modify d/g 19"}, func() {
		s.ok(s.size(0, "f"))
		s.ok(s.size(19, "d", "g"))
		if version(linux.ORdonly, "d", "g") != 0 {
			t.Error("what the agent has not reported yet is cached")
		}
	})
	if version(linux.ORdonly, "d", "g") == 0 {
		t.Error("what the guest was told is not cached")
	}
}

func TestTheGuestIsNotToldOfNamesThatItExchanged(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"}, []string{"d", "g"})
	d, err := s.guest.Walk("d")
	s.ok(err)
	s.ok(s.guest.Client().Call(&p9.Trenameat2{
		OldDirFID: s.guest.Num(), OldName: "f", NewDirFID: d.Num(), NewName: "g", Flags: linux.RenameExchange,
	}, &p9.Rrenameat2{}))
	s.noteAll(
		watch.Event{Dir: s.id(""), Name: "f", Op: watch.Rename, ToDir: s.id("d"), To: "g"},
		watch.Event{Dir: s.id("d"), Name: "g", Op: watch.Rename, ToDir: s.id(""), To: "f"},
	)
	s.note("", "f", watch.Attrib)
	s.wants(nil, nil)
	s.host("f=changed by the host")
	s.note("", "f", watch.Modify|watch.Close)
	s.wants([]string{"modify /f 19"}, nil)
}

// A name that is moved to itself, or exchanged with itself, is the one that it
// was: whoever has the file open goes on writing under it.
func TestANameMovedToItselfStaysKnown(t *testing.T) {
	for what, flags := range map[string]uint32{"rename": 0, "exchange": linux.RenameExchange} {
		t.Run(what, func(t *testing.T) {
			s := newShare(t, replay.Config{})
			first, err := s.guest.Walk("f")
			s.ok(err)
			_, err = first.Getattr(p9.AttrAll)
			s.ok(err)
			s.ok(first.Open(linux.ORdwr))
			s.ok(s.guest.Renameat2("f", s.guest, "f", flags))
			second, err := s.guest.Walk("f")
			s.ok(err)
			s.ok(second.Open(linux.ORdwr))
			_, err = second.WriteAt([]byte("longer"), 0)
			s.ok(err)
			s.ok(second.Clunk())
			s.ok(first.Clunk())
			s.noteAll(watch.Event{Op: watch.Lost})
			s.wants(nil, nil)
		})
	}
}
