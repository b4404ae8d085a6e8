// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"maps"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// What is here keeps track of files with several names. The guest has one inode
// of such a file, and knows of all of them what it was told, or did, under one;
// the host tells of a change under the name that it was made by alone.

// links are files with several names.
type links map[p9.QID]*linked

// linked is what the guest knows of a file under whichever of its names.
type linked struct {
	// told says that the guest was told of contents, of which size, mtime and
	// ctime are what changes with them.
	told         bool
	size         uint64
	mtime, ctime p9.Time
	// own is the file as the guest's own last change left it.
	own state
	// changing counts the guest's own changes that are under way. What the
	// host tells meanwhile of names of the file is in late.
	changing int
	late     map[place]watch.Op
}

// maxLinks bounds links; beyond it all are forgotten, at the cost of telling
// the guest something twice.
const maxLinks = 1 << 16

// linkLocked returns what is known of a file, made where there is nothing.
func (t *Tree) linkLocked(id p9.QID) *linked {
	if l := t.links[id]; l != nil {
		return l
	}
	if t.links == nil {
		t.links = links{}
	} else if len(t.links) >= maxLinks {
		maps.DeleteFunc(t.links, func(_ p9.QID, l *linked) bool { return l.changing == 0 })
	}
	l := &linked{}
	t.links[id] = l
	return l
}

// toldLocked notes that the guest knows the contents that st tells of.
func (t *Tree) toldLocked(st *state) {
	if st.linked {
		t.linkLocked(st.id).tell(st)
	}
}

// toldByHandleLocked is toldLocked, of a file that lost the name by which the
// guest found it: it may have others, of which one may be the last.
func (t *Tree) toldByHandleLocked(a *p9.Attr) {
	st := stateOf(a)
	t.linkLocked(st.id).tell(&st)
}

func (l *linked) tell(st *state) {
	l.told, l.size, l.mtime, l.ctime = true, st.size, st.mtime, st.ctime
}

// knowsLocked says whether the guest, which knows e, knows the contents that st
// tells of: it may have been told of them under another name of the file, which
// may have gone since.
func (t *Tree) knowsLocked(e *entry, st *state) bool {
	if e.st.sameContents(st) {
		return true
	}
	l := t.links[st.id]
	if !st.linked && !e.st.linked || l == nil || !l.told || l.size != st.size || l.mtime != st.mtime {
		return false
	}
	e.st.size, e.st.mtime, e.st.ctime = l.size, l.mtime, l.ctime
	return true
}

// knowsAttributesLocked says whether the guest, which knows e, knows the
// attributes that st tells of: it may have set them under another name of the
// file, or taken that name away.
func (t *Tree) knowsAttributesLocked(e *entry, st *state) bool {
	if e.st.sameAttributes(st) {
		return true
	}
	l := t.links[st.id]
	if l == nil || !e.st.linked || !l.own.sameAttributes(st) {
		return false
	}
	e.st.mode, e.st.owner, e.st.ctime, e.st.linked = st.mode, st.owner, st.ctime, st.linked
	return true
}

// noticedLocked has the guest be told of a file whose contents were found to
// have changed: the host may have told of it under another name, or not at all.
func (t *Tree) noticedLocked(e *entry) {
	if e.dir != nil {
		t.queueLocked(&hint{dir: e.dir, name: e.name, op: watch.Modify | watch.Close})
	}
}

// aliased runs a change of the guest's own to what e names, which is name in
// dir. If the file has other names, what the host tells of those meanwhile is
// put off, and what it tells of this change is none of the host's.
func (t *Tree) aliased(e *entry, dir p9srv.Node, name string, change func() linux.Errno) linux.Errno {
	if !t.isLinked(e) {
		return change()
	}
	file, e1 := dir.Walk(name)
	if e1 != 0 {
		return change()
	}
	defer file.Release()
	return t.changing(e, file, change)
}

// isLinked says whether the guest knows e as one name of several.
func (t *Tree) isLinked(e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e != nil && e.known && e.st.linked
}

// changing is aliased, of the file that e names.
func (t *Tree) changing(e *entry, file p9srv.Node, change func() linux.Errno) linux.Errno {
	if !t.isLinked(e) {
		return change()
	}
	id := file.QID()
	t.mu.Lock()
	t.linkLocked(id).changing++
	t.mu.Unlock()
	errno := change()
	var a p9.Attr
	told := errno == 0 && file.Getattr(p9.AttrAll, &a) == 0
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.links[id]
	if told {
		l.own = stateOf(&a)
	}
	if l.changing--; l.changing == 0 {
		for p, op := range l.late {
			t.queueLocked(&hint{dir: p.dir, name: p.name, op: op})
		}
		l.late = nil
	}
	return errno
}

// putOffLinkLocked notes a hint for later if the file that e names is being
// changed by the guest under another name.
func (t *Tree) putOffLinkLocked(e *entry, op watch.Op) bool {
	l := t.links[e.st.id]
	if !e.st.linked || l == nil || l.changing == 0 {
		return false
	}
	if l.late == nil {
		l.late = map[place]watch.Op{}
	}
	l.late[place{e.dir, e.name}] |= op
	return true
}
