// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"strings"
	"time"

	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// dir is a directory that the guest has looked into. It is guarded by
// Tree.mu, but for id, which does not change.
type dir struct {
	id watch.ID
	// self is the directory's own name.
	self *entry
	// node is the directory in the tree below, a reference of the Tree's.
	node    p9srv.Node
	entries map[string]*entry
	// subs counts the entries that are directories of interest themselves.
	subs int
	// watched says that the host tells of changes; gone that the directory is
	// of no interest any more; again that it was forgotten before.
	watched, gone, again bool
	// seen is when what is in the directory was looked at, and mtime the
	// directory's own then, if it is not watched.
	seen  time.Time
	mtime p9.Time
}

// entry is a name that the guest knows, or knew until a moment ago. It is
// guarded by Tree.mu.
type entry struct {
	// dir is nil for the root, and once the file has no name that the guest
	// knows.
	dir  *dir
	name string
	// last is the directory that it was in, if it is in none.
	last *dir
	// refs counts nodes.
	refs int32
	// busy counts the guest's own changes that are under way.
	busy int32
	// gen changes with every change of the guest's own.
	gen uint32
	// known says that st is what the guest was told.
	known bool
	// own says that st comes of a change of the guest's own.
	own bool
	// gone says that the guest removed the name: what remains is the memory
	// of it.
	gone bool
	// looked says that the guest found the name by itself.
	looked bool
	// dirty says that the host is known to have changed the contents.
	dirty bool
	// put off hints, to be looked into once the entry is not busy.
	late watch.Op
	st   state
	sub  *dir
	// prev and next link the entries of the ring.
	prev, next *entry
	ring       *ring
}

// place is a name in a directory.
type place struct {
	dir  *dir
	name string
}

// entryLocked returns the entry of a name, making it where there is none.
func (t *Tree) entryLocked(d *dir, name string) *entry {
	e := d.entries[name]
	if e == nil {
		e = &entry{dir: d, name: strings.Clone(name)}
		d.entries[e.name] = e
	}
	return e
}

// dropLocked takes e out of its directory.
func (t *Tree) dropLocked(e *entry) {
	unlink(e)
	if e.dir != nil && e.dir.entries[e.name] == e {
		delete(e.dir.entries, e.name)
	}
	if e.sub != nil {
		t.forgetLocked(e.sub)
	}
	if e.dir != nil {
		e.last = e.dir
	}
	e.dir = nil
}

// forgetLocked ends the interest in a directory and all below it.
func (t *Tree) forgetLocked(d *dir) {
	if d.gone {
		return
	}
	d.gone = true
	for _, e := range d.entries {
		t.dropLocked(e)
	}
	delete(t.dirs, d.id)
	if up := d.self.dir; up != nil {
		t.subsLocked(up, -1)
	}
	d.self.sub = nil
	if d.watched {
		t.cfg.Watcher.Remove(d.id)
	} else {
		t.unwatched--
	}
	if !t.closed {
		d.node.Release()
	}
}

// newDirLocked makes a directory of interest of e; it owns node. It returns
// nil, and releases node, if there are too many.
func (t *Tree) newDirLocked(e *entry, node p9srv.Node) *dir {
	t.trimLocked()
	if len(t.dirs) >= t.cfg.MaxDirs && !t.forgetOldestLocked() {
		t.stats.Untracked++
		node.Release()
		return nil
	}
	d := &dir{
		id: t.nextDir, self: e, node: node, entries: map[string]*entry{},
		again: t.foundAgainLocked(node.QID().Path), seen: time.Now(),
	}
	t.nextDir++
	t.unwatched++
	t.dirs[d.id] = d
	e.sub = d
	if e.dir != nil {
		t.subsLocked(e.dir, 1)
	}
	unlink(e)
	return d
}

// pathLocked returns d's path below the root, "" for the root.
func (t *Tree) pathLocked(d *dir) string {
	var names []string
	for e := d.self; e.dir != nil; e = e.dir.self {
		names = append(names, e.name)
	}
	var sb strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		sb.WriteString(names[i])
		if i > 0 {
			sb.WriteByte('/')
		}
	}
	return sb.String()
}

// enter makes a node of c, which the guest found as name in the directory
// parent. A directory is of interest, and watched, from then on.
func (t *Tree) enter(parent *entry, name string, c p9srv.Node) *node {
	var made *dir
	t.mu.Lock()
	var e *entry
	if parent != nil && parent.sub != nil {
		e = t.entryLocked(parent.sub, name)
		unlink(e)
		e.refs++
		if e.busy == 0 && (e.gone || !e.known && !e.looked) {
			*e = entry{dir: e.dir, name: e.name, refs: e.refs, gen: e.gen + 1, looked: true, late: e.late, sub: e.sub}
		}
		if e.sub == nil && isDir(c) {
			made = t.newDirLocked(e, c.Clone())
		}
	}
	t.mu.Unlock()
	t.watch(made)
	return &node{Node: c, t: t, e: e}
}

// hold returns the entry's directory as a node of the tree below, which the
// caller releases, and the name; nil if it has none.
func (t *Tree) hold(e *entry) (p9srv.Node, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e == nil || e.dir == nil || e.dir.gone {
		return nil, ""
	}
	return e.dir.node.Clone(), e.name
}

// holdLast is hold, of the name that the entry had last if it has none.
func (t *Tree) holdLast(e *entry) (p9srv.Node, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e == nil {
		return nil, ""
	}
	d := e.dir
	if d == nil {
		d = e.last
	}
	if d == nil || d.gone {
		return nil, ""
	}
	return d.node.Clone(), e.name
}
