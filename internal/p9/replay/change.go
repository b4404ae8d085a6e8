// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/watch"
)

// What is here runs around the guest's own changes. While one is under way
// its names are busy, and what the host tells of them is put off; when it is
// done the names' new state is what the guest knows, so that nothing is left
// to tell it.

// begin makes a name busy. It returns nil if the directory is not followed.
func (t *Tree) begin(parent *entry, name string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parent == nil || parent.sub == nil {
		return nil
	}
	return t.busyLocked(t.entryLocked(parent.sub, name))
}

// beginOn makes an entry's own name busy.
func (t *Tree) beginOn(e *entry) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e == nil || e.dir == nil {
		return nil
	}
	return t.busyLocked(e)
}

func (t *Tree) busyLocked(e *entry) *entry {
	e.busy++
	e.gen++
	unlink(e)
	return e
}

// endLocked ends what begin began. An entry that was made for a change that
// failed is nothing that the guest knows.
func (t *Tree) endLocked(e *entry) {
	e.busy--
	e.gen++
	if e.busy == 0 && e.late != 0 && e.dir != nil {
		t.queueLocked(&hint{dir: e.dir, name: e.name, op: e.late})
		e.late = 0
	}
	if e.busy == 0 && e.refs == 0 && !e.known && !e.gone && e.sub == nil {
		t.dropLocked(e)
		return
	}
	t.settleLocked(e)
}

// make runs an operation that makes a name.
func (t *Tree) make(parent *entry, name string, op func() linux.Errno) linux.Errno {
	e := t.begin(parent, name)
	errno := op()
	if e == nil {
		return errno
	}
	var st state
	there := false
	if errno == 0 {
		st, there = t.now(e)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if there {
		if e.known && !e.gone && e.st.id != st.id {
			e = t.replaceLocked(e)
		}
		e.st, e.known, e.own, e.gone, e.looked = st, true, true, false, false
	}
	t.endLocked(e)
	return errno
}

// now returns the state of what e names.
func (t *Tree) now(e *entry) (state, bool) {
	dir, name := t.hold(e)
	if dir == nil {
		return state{}, false
	}
	defer dir.Release()
	c, st := look(dir, name)
	if c == nil {
		return state{}, false
	}
	c.Release()
	return st, true
}

// replaceLocked puts a new entry into the place of e, whose file has lost the
// name; what is under way goes on with the new one.
func (t *Tree) replaceLocked(e *entry) *entry {
	fresh := &entry{dir: e.dir, name: e.name, busy: e.busy, gen: e.gen, late: e.late}
	t.dropLocked(e)
	e.busy, e.late = 0, 0
	if fresh.dir != nil && !fresh.dir.gone {
		fresh.dir.entries[fresh.name] = fresh
	}
	return fresh
}

// removed ends the removal of a name: the memory that the guest did it stays.
func (t *Tree) removed(e *entry, ok bool) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ok && e.dir != nil {
		e = t.replaceLocked(e)
		e.gone, e.own = true, true
	}
	t.endLocked(e)
}

// renamed ends a rename.
func (t *Tree) renamed(src, dst *entry, ok bool) {
	if src != nil && src == dst { // which rename(2) leaves as it is
		t.unmoved(src)
		return
	}
	if !ok || src == nil || dst == nil {
		t.removed(src, ok)
		t.arrived(dst, ok)
		return
	}
	st, there := t.now(dst)
	same := false
	if there && st.linked {
		left, still := t.now(src)
		same = still && left.id == st.id
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if same { // two names of one file, which rename(2) leaves as they are
		t.endLocked(src)
		t.endLocked(dst)
		return
	}
	moved := t.moveLocked(src, dst)
	if there {
		// A rename changes no contents: what the host did to them is still to
		// be told.
		if moved.known && moved.st.id == st.id {
			st.size, st.mtime = moved.st.size, moved.st.mtime
		}
		moved.st, moved.known, moved.own = st, true, true
	}
}

// unmoved ends a rename of a name to itself.
func (t *Tree) unmoved(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(e)
	t.endLocked(e)
}

// arrived ends a rename from a place that is not followed.
func (t *Tree) arrived(dst *entry, ok bool) {
	if dst == nil {
		return
	}
	st, there := t.now(dst)
	t.mu.Lock()
	defer t.mu.Unlock()
	if ok && there {
		dst = t.replaceLocked(dst)
		dst.st, dst.known, dst.own = st, true, true
	}
	t.endLocked(dst)
}

// moveLocked makes src's file the one that dst's place names, and leaves the
// memory of a removal behind. Both are busy until then. It returns the entry
// that is in dst's place now.
func (t *Tree) moveLocked(src, dst *entry) *entry {
	to, from := place{dst.dir, dst.name}, place{src.dir, src.name}
	if to.dir == nil || to.dir.gone || from.dir == nil {
		t.endLocked(src)
		t.endLocked(dst)
		return dst
	}
	late, busy := dst.late, dst.busy
	t.dropLocked(dst)
	dst.busy, dst.late = 0, 0
	left := &entry{dir: from.dir, name: from.name, gone: true, own: true, busy: src.busy, late: src.late, gen: src.gen}
	from.dir.entries[from.name] = left
	unlink(src)
	if src.sub != nil {
		t.subsLocked(from.dir, -1)
		t.subsLocked(to.dir, 1)
	}
	src.dir, src.name, src.busy, src.late = to.dir, to.name, busy, late
	to.dir.entries[to.name] = src
	t.endLocked(left)
	t.endLocked(src)
	return src
}

// exchanged ends the exchange of two names.
func (t *Tree) exchanged(a, b *entry, ok bool) {
	if a != nil && a == b {
		t.unmoved(a)
		return
	}
	if a == nil || b == nil {
		t.arrived(a, ok)
		t.arrived(b, ok)
		return
	}
	t.mu.Lock()
	if pa, pb := (place{a.dir, a.name}), (place{b.dir, b.name}); ok && pa.dir != nil && pb.dir != nil {
		for _, m := range [...]struct {
			e        *entry
			from, to place
		}{{a, pa, pb}, {b, pb, pa}} {
			m.e.dir, m.e.name = m.to.dir, m.to.name
			m.to.dir.entries[m.to.name] = m.e
			if m.e.sub != nil {
				t.subsLocked(m.from.dir, -1)
				t.subsLocked(m.to.dir, 1)
			}
		}
		a.late, b.late = b.late, a.late
	}
	t.mu.Unlock()
	for _, e := range [...]*entry{a, b} {
		st, there := t.now(e)
		t.mu.Lock()
		if ok && there && e.known && e.st.id == st.id {
			// What the host did to the contents is still to be told.
			st.size, st.mtime = e.st.size, e.st.mtime
		}
		if ok && there {
			e.st, e.known, e.own, e.gone = st, true, true, false
		}
		t.endLocked(e)
		t.mu.Unlock()
	}
}

// alter runs an operation that changes attributes; valid are the bits of a
// Tsetattr.
func (t *Tree) alter(n *node, valid uint32, op func() linux.Errno) linux.Errno {
	e := t.beginOn(n.e)
	errno := t.changing(e, n.Node, op)
	if e == nil {
		return errno
	}
	var a p9.Attr
	told := errno == 0 && n.Node.Getattr(p9.AttrAll, &a) == 0
	t.mu.Lock()
	defer t.mu.Unlock()
	if told && e.known && e.st.id == a.QID {
		st := stateOf(&a)
		if valid&p9.SetSize == 0 {
			st.size = e.st.size
		}
		if valid&(p9.SetMtime|p9.SetSize) == 0 {
			st.mtime = e.st.mtime
		}
		e.st, e.own = st, true
		if valid&(p9.SetMtime|p9.SetSize) != 0 {
			t.toldLocked(&st)
		}
	}
	t.endLocked(e)
	return errno
}

// putOffLocked notes a hint for later if e's state is in flux.
func putOffLocked(e *entry, op watch.Op) bool {
	if e == nil || e.busy == 0 {
		return false
	}
	e.late |= op
	return true
}
