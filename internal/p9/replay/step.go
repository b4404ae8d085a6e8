// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// Kind is what a step does.
type Kind uint8

// The kinds of steps.
const (
	// Create makes Name, a directory if IsDir. For anything else the agent
	// makes a symbolic link: Linux's client tells watchers of it and looks
	// the name up when it is next asked for.
	Create Kind = iota
	// Remove removes Name.
	Remove
	// Rename moves Name to ToName in ToDir.
	Rename
	// Modify drops cached contents and sets the size, through a writer that is
	// closed.
	Modify
	// Attrib touches the file's times.
	Attrib
)

// Step is one change that the agent is to repeat.
type Step struct {
	Kind  Kind
	IsDir bool
	// Dir and ToDir are paths below the root; Name and ToName single names.
	Dir, Name     string
	ToDir, ToName string
	Size          uint64
	// Known says that the guest has found a name before it was told that it
	// was made, and is to forget it first, by changing its owner to nobody in
	// particular.
	Known bool

	dir, to *dir
	// e is the entry of Name when the step was made, nil for none; gen what
	// its gen was.
	e   *entry
	gen uint32
	st  state
	h   *hint
	// node is the file that a Rename moves. The step owns it.
	node p9srv.Node
	// shared says that the guest has the file open for writing, and gives up
	// its cache of it first.
	shared bool
	// hidden and done are guarded by Tree.mu: whether the name is being kept
	// from the agent, and whether the step was taken.
	hidden, done bool
}

// armed is a step in the list of a place that it is about.
type armed struct {
	*Step
	// target says that the place is where a Rename leads.
	target bool
}

// armLocked announces a step.
func (t *Tree) armLocked(s *Step) {
	s.Dir = t.pathLocked(s.dir)
	s.hidden = !s.Known
	p := place{s.dir, s.Name}
	t.armed[p] = append(t.armed[p], &armed{Step: s})
	if s.Kind == Rename {
		s.ToDir = t.pathLocked(s.to)
		p = place{s.to, s.ToName}
		t.armed[p] = append(t.armed[p], &armed{Step: s, target: true})
	}
}

// announcedLocked returns the step that is next at a place, nil if none is.
func (t *Tree) announcedLocked(d *dir, name string) *armed {
	if d == nil {
		return nil
	}
	for _, a := range t.armed[place{d, name}] {
		if !a.done {
			return a
		}
	}
	return nil
}

// maxTries bounds how often the guest is told of one thing that it does not
// take.
const maxTries = 4

// Finish ends the announcement of steps. results are what the agent says of
// them, in order; missing ones have failed. What failed because things changed
// meanwhile is looked at again.
func (t *Tree) Finish(steps []*Step, results []linux.Errno) {
	t.mu.Lock()
	t.armed = map[place][]*armed{}
	for i, s := range steps {
		failed := linux.EIO
		if i < len(results) {
			failed = results[i]
		}
		if failed != 0 && !s.done {
			t.retryLocked(s)
		}
	}
	t.mu.Unlock()
	for _, s := range steps {
		release(s.node)
	}
}

func (t *Tree) retryLocked(s *Step) {
	h := s.h
	if h.tries++; h.tries >= maxTries {
		t.stats.Failed++
		return
	}
	again := &hint{dir: s.dir, name: s.Name, isDir: s.IsDir, tries: h.tries}
	switch s.Kind {
	case Create:
		again.op = watch.Create
	case Remove:
		again.op = watch.Remove
	case Modify:
		again.op = watch.Modify | watch.Close
	case Attrib:
		again.op = watch.Attrib
	case Rename:
		t.apartLocked(h)
		return
	}
	t.queueLocked(again)
}
