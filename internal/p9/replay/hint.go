// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"strings"
	"time"

	"byre.dev/byre/internal/watch"
)

// hint says that something may have happened to a name.
type hint struct {
	dir  *dir
	name string
	op   watch.Op
	// isDir says that the name was a directory's when it went.
	isDir bool
	// to and toName are where a Rename led.
	to     *dir
	toName string
	// tries counts how often the guest could not be told.
	tries int
	// since is when it was queued first.
	since time.Time
}

// patience is how long changed contents wait for their writer to close the
// file: the guest is told of both at once.
const patience = 60 * time.Millisecond

// unripe says whether h is of contents that are still being written.
func (h *hint) unripe() bool {
	return h.op&(watch.Modify|watch.Close|watch.Remove|watch.Lost) == watch.Modify && time.Since(h.since) < patience
}

// maxQueue bounds the hints that wait; beyond it everything is compared.
const maxQueue = 1 << 16

// maxLag is how much earlier than it was read an event may have happened.
const maxLag = 2 * time.Second

// Note takes events of the host.
func (t *Tree) Note(events []watch.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range events {
		t.noteLocked(&events[i])
	}
	if len(t.queue) > maxQueue {
		t.lostLocked()
	}
	if len(t.resync) == 0 {
		t.since = time.Now().Add(-maxLag)
	}
}

func (t *Tree) noteLocked(e *watch.Event) {
	if e.Op&watch.Lost != 0 {
		t.lostLocked()
		return
	}
	from, name := t.findLocked(e.Dir, e.Name)
	if e.Op&watch.Rename == 0 {
		if from != nil {
			t.queueLocked(&hint{dir: from, name: name, op: e.Op, isDir: e.IsDir})
		}
		return
	}
	to, toName := t.findLocked(e.ToDir, e.To)
	switch {
	case from != nil && to != nil:
		t.queueLocked(&hint{dir: from, name: name, op: watch.Rename, isDir: e.IsDir, to: to, toName: toName})
	case from != nil:
		t.queueLocked(&hint{dir: from, name: name, op: watch.Remove, isDir: e.IsDir})
	case to != nil:
		t.queueLocked(&hint{dir: to, name: toName, op: watch.Create, isDir: e.IsDir})
	}
}

// findLocked returns the directory of interest that a path's last name is in,
// nil if it is of none.
func (t *Tree) findLocked(id watch.ID, path string) (*dir, string) {
	d := t.dirs[id]
	for d != nil {
		first, rest, more := strings.Cut(path, "/")
		if !more {
			break
		}
		e := d.entries[first]
		if e == nil {
			return nil, ""
		}
		d, path = e.sub, rest
	}
	return d, path
}

// queueLocked adds a hint, to one of the same name where that is the same as
// to add it to the end.
func (t *Tree) queueLocked(h *hint) {
	if h.dir == nil || h.dir.gone {
		return
	}
	if h.since.IsZero() {
		h.since = time.Now()
	}
	p := place{h.dir, h.name}
	switch old := t.index[p]; {
	case h.op == watch.Rename:
		t.renames++
		// What is known of the names so far comes before the rename, what
		// comes later after it.
		delete(t.index, p)
		delete(t.index, place{h.to, h.toName})
	case old != nil && !(h.op&watch.Create != 0 && old.op&watch.Remove == 0 && old.op&watch.Create != 0):
		old.op |= h.op
		old.isDir = old.isDir || h.isDir
		t.poke()
		return
	default:
		t.index[p] = h
	}
	t.queue = append(t.queue, h)
	t.poke()
}

// nextLocked takes the first hint, nil if there is none.
func (t *Tree) nextLocked() *hint {
	if len(t.queue) == 0 {
		t.queue = nil
		return nil
	}
	h := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	if h.op == watch.Rename {
		t.renames--
	}
	if p := (place{h.dir, h.name}); t.index[p] == h {
		delete(t.index, p)
	}
	return h
}

const (
	// maxSplits and maxLate are how many plans may do but a step or two, and how
	// old hints may get by it, until renames are no longer told as such.
	maxSplits = 16
	maxLate   = 500 * time.Millisecond
)

// catchUp makes the queue short if names that are renamed over and over keep
// plans from doing more than a step each: what became of each name is then
// found out once.
func (t *Tree) catchUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.splits = 0
		return
	}
	if t.splits < maxSplits || time.Since(t.queue[0].since) < maxLate {
		return
	}
	t.splits = 0
	long := t.queue
	t.queue, t.index, t.renames = nil, map[place]*hint{}, 0
	for _, h := range long {
		if h.op != watch.Rename {
			t.mergeLocked(h)
			continue
		}
		t.mergeLocked(&hint{dir: h.dir, name: h.name, op: watch.Remove, isDir: h.isDir, tries: h.tries})
		t.mergeLocked(&hint{dir: h.to, name: h.toName, op: watch.Create | watch.Modify, isDir: h.isDir, tries: h.tries})
	}
}

// mergeLocked adds a hint to the one of its name, in whatever order things
// happened.
func (t *Tree) mergeLocked(h *hint) {
	if old := t.index[place{h.dir, h.name}]; old != nil {
		old.op |= h.op
		return
	}
	t.queueLocked(h)
}
