// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"testing"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// A file that is saved over and over by renaming another over it gives more
// hints than the guest can be told of one by one.
func TestRenamesThatPileUpAreToldAsWhatBecameOfTheNames(t *testing.T) {
	s := newShare(t, replay.Config{})
	s.know([]string{"f"})
	for i := range 100 {
		s.host(fmt.Sprintf("new=contents %d", i))
		s.hostRename("new", "f")
		s.note("", "new", watch.Create)
		s.note("", "new", watch.Modify|watch.Close)
		s.noteAll(watch.Event{Dir: s.id(""), Name: "new", Op: watch.Rename, ToDir: s.id(""), To: "f"})
	}
	time.Sleep(600 * time.Millisecond) // as if the guest had been slow
	rounds, last := 0, []string(nil)
	for ; rounds < 100; rounds++ {
		steps, all := s.plan()
		if len(steps) == 0 {
			break
		}
		last = all
		for _, st := range steps {
			switch st.Kind {
			case replay.Create:
				s.symlink(s.agent, st.Name)
			case replay.Remove:
				s.unlink(s.agent, st.Name, 0)
			case replay.Rename:
				s.call(&p9.Trenameat{OldDirFID: s.agent.Num(), OldName: st.Name, NewDirFID: s.agent.Num(), NewName: st.ToName}, &p9.Rrenameat{})
			}
		}
		s.tree.Finish(steps, make([]linux.Errno, len(steps)))
	}
	if rounds >= 30 {
		t.Errorf("%d rounds for a hundred renames, the last of them %v", rounds, last)
	}
	if f := s.tree.Stats().Failed; f != 0 {
		t.Errorf("%d steps failed", f)
	}
}

// The guest may have a name cached for a file that the server takes it to have
// forgotten: who tells of new contents under it finds out.
func TestAGuestThatHasAnotherFileUnderANameIsToldOfTheNewOne(t *testing.T) {
	s := newShare(t, replay.Config{})
	old, err := s.agent.Walk("f") // the guest's kernel keeps it with the name
	s.ok(err)
	s.host("new=another")
	s.hostRename("new", "f")
	s.know([]string{"f"})
	s.host("f=another, longer")
	s.note("", "f", watch.Modify|watch.Close)
	steps, _ := s.plan()
	if len(steps) != 1 || steps[0].Kind != replay.Modify {
		t.Fatalf("steps %v", steps)
	}
	size := &p9.Tsetattr{FID: old.Num(), SetAttr: p9.SetAttr{Valid: p9.SetSize, Size: steps[0].Size}}
	s.fails(s.call(size, &p9.Rsetattr{}), linux.ESTALE)
	s.tree.Finish(steps, []linux.Errno{linux.ESTALE})
	s.wants([]string{"remove /f", "create /f", "modify /f 15"}, nil)
}
