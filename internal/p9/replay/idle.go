// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"time"

	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/watch"
)

// What is here forgets what the guest holds nothing of any more: names and
// directories that no node refers to. Linux's client keeps a fid of each name
// that it has cached, but its inodes, with pages and attributes, may outlive
// their names. What it meets again after that is told of if the host may have
// changed it meanwhile.

// ring holds entries that no node refers to, oldest first.
type ring struct {
	head entry
	n    int
}

// maxIdle is how many names are kept, so that events of what the guest did to
// them are known for its own.
const maxIdle = 4096

func (r *ring) init() { r.head.prev, r.head.next = &r.head, &r.head }

func (r *ring) add(e *entry) {
	unlink(e)
	e.prev, e.next, e.ring = r.head.prev, &r.head, r
	e.prev.next, e.next.prev = e, e
	r.n++
}

// oldest returns the entry that has been in the ring for longest, nil if it is
// empty.
func (r *ring) oldest() *entry {
	if r.n == 0 {
		return nil
	}
	return r.head.next
}

// unlink takes e out of the ring that it is in, if any.
func unlink(e *entry) {
	if e.ring == nil {
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	e.ring.n--
	e.prev, e.next, e.ring = nil, nil, nil
}

// settleLocked makes e idle if nothing refers to it.
func (t *Tree) settleLocked(e *entry) {
	switch {
	case e.refs > 0 || e.busy > 0 || e.dir == nil || e.sub != nil && (e.sub.subs > 0 || e.sub.gone):
		unlink(e)
	case e.sub != nil:
		t.idleDirs.add(e)
	default:
		t.idle.add(e)
	}
}

// subsLocked adds n to the directories of interest in d.
func (t *Tree) subsLocked(d *dir, n int) {
	d.subs += n
	t.settleLocked(d.self)
}

// trimLocked forgets idle names and directories beyond what is kept.
func (t *Tree) trimLocked() {
	for t.idle.n > maxIdle {
		e := t.idle.oldest()
		if !e.dir.watched {
			t.forgettingLocked()
		}
		t.dropLocked(e)
	}
	for t.idleDirs.n > t.cfg.MaxIdleDirs {
		t.forgetOldestLocked()
	}
}

// forgetOldestLocked forgets the directory of which the guest has had no fid
// for longest; it returns false if there is none.
func (t *Tree) forgetOldestLocked() bool {
	e := t.idleDirs.oldest()
	if e == nil {
		return false
	}
	t.forgettingLocked()
	t.rememberLocked(e.sub.node.QID().Path)
	t.forgetLocked(e.sub)
	t.settleLocked(e)
	return true
}

// forgettingLocked notes that changes may go unseen from now on.
func (t *Tree) forgettingLocked() {
	if t.forgot.IsZero() {
		t.forgot = time.Now()
	}
}

// maxForgotten bounds the directories that are known to be forgotten; beyond it
// any that is found may be one.
const maxForgotten = 1 << 17

// rememberLocked notes that the directory of a QID's path is forgotten.
func (t *Tree) rememberLocked(path uint64) {
	switch {
	case t.forgotten == nil:
		t.forgotten = map[uint64]struct{}{}
	case len(t.forgotten) >= maxForgotten:
		t.forgotAny = true
		return
	}
	t.forgotten[path] = struct{}{}
}

// foundAgainLocked says whether the directory of a QID's path may have been
// forgotten before.
func (t *Tree) foundAgainLocked(path uint64) bool {
	_, ok := t.forgotten[path]
	delete(t.forgotten, path)
	return ok || t.forgotAny
}

// foundLocked has the guest be told of a file that it has just found, if that
// is where changes may have gone unseen and the host has changed it since: an
// inode may be left in the guest that it was of before.
func (t *Tree) foundLocked(e *entry) {
	d := e.dir
	if d == nil || d.watched && !d.again || t.forgot.IsZero() || !e.st.mode.IsRegular() {
		return
	}
	if after(e.st.ctime, t.forgot.Add(-clockStep)) {
		e.dirty = true
		t.queueLocked(&hint{dir: d, name: e.name, op: watch.Modify | watch.Close})
	}
}

// after says whether a is b or later.
func after(a p9.Time, b time.Time) bool { return !time.Unix(a.Sec, a.Nsec).Before(b) }
