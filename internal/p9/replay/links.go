// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/watch"
)

// What is here keeps track of files with several names. The guest has one inode
// of such a file, and knows of all of them what it was told under one; the host
// tells of a change under the name that it was made by alone.

// links are the states that the guest was told of files with several names.
type links map[p9.QID]linked

// linked is the part of a state that changes with the contents.
type linked struct {
	size         uint64
	mtime, ctime p9.Time
}

// maxLinks bounds links; beyond it all are forgotten, at the cost of telling
// the guest something twice.
const maxLinks = 1 << 16

// toldLocked notes that the guest knows the contents that st tells of.
func (t *Tree) toldLocked(st *state) {
	if !st.linked {
		return
	}
	if t.links == nil || len(t.links) >= maxLinks {
		t.links = links{}
	}
	t.links[st.id] = linked{st.size, st.mtime, st.ctime}
}

// knowsLocked says whether the guest, which knows e, knows the contents that st
// tells of: it may have been told of them under another name of the file.
func (t *Tree) knowsLocked(e *entry, st *state) bool {
	if e.st.sameContents(st) {
		return true
	}
	l, ok := t.links[st.id]
	if !st.linked || !ok || l.size != st.size || l.mtime != st.mtime {
		return false
	}
	e.st.size, e.st.mtime, e.st.ctime = l.size, l.mtime, l.ctime
	return true
}

// noticedLocked has the guest be told of a file whose contents were found to
// have changed: the host may have told of it under another name, or not at all.
func (t *Tree) noticedLocked(e *entry) {
	if e.dir != nil {
		t.queueLocked(&hint{dir: e.dir, name: e.name, op: watch.Modify | watch.Close})
	}
}
