// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// Plan compares what the hints name with what the guest knows and returns the
// steps, at most about max, that make the guest know what is. They are
// announced: the agent may take them, in order, until Finish, which must be
// called before the next Plan. No steps mean that there is nothing to do.
func (t *Tree) Plan(max int) []*Step {
	var steps []*Step
	var waiting []*hint
	t.catchUp()
	for len(steps) < max {
		t.mu.Lock()
		h := t.nextLocked()
		inOrder := t.renames > 0 // what comes before a rename cannot wait
		t.mu.Unlock()
		if h == nil {
			if t.compareNext() {
				continue
			}
			break
		}
		if !inOrder && h.unripe() {
			waiting = append(waiting, h)
			continue
		}
		more, split := t.consider(h)
		steps = append(steps, more...)
		if split {
			t.splits++
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Steps += uint64(len(steps))
	for _, h := range waiting {
		t.queueLocked(h)
	}
	return steps
}

// consider makes steps of a hint and announces them. split says that what
// comes next must wait until they are taken.
func (t *Tree) consider(h *hint) (steps []*Step, split bool) {
	if h.op == watch.Rename {
		return t.considerRename(h)
	}
	t.mu.Lock()
	d := h.dir
	if d.gone || putOffLocked(d.entries[h.name], h.op) {
		t.mu.Unlock()
		return nil, false
	}
	if len(t.armed[place{d, h.name}]) > 0 && h.op&(watch.Create|watch.Remove|watch.Lost) != 0 {
		t.requeueLocked(h)
		t.mu.Unlock()
		return nil, true
	}
	e := d.entries[h.name]
	knew := knowledgeLocked(e)
	dirNode := d.node.Clone()
	t.mu.Unlock()
	defer dirNode.Release()
	n, st := look(dirNode, h.name)
	var id p9srv.FileID
	shared := false
	if n != nil {
		id = n.FileID()
		shared = t.shared(n)
		n.Release()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.gone {
		return nil, false
	}
	if now := d.entries[h.name]; now != e || knowledgeLocked(now) != knew || now != nil && now.busy > 0 {
		if !putOffLocked(now, h.op) {
			t.queueLocked(h)
		}
		return nil, false
	}
	c := comparison{t: t, h: h, e: e, st: st, there: n != nil, file: id, shared: shared}
	steps = c.stepsLocked()
	for _, s := range steps {
		t.armLocked(s)
	}
	return steps, false
}

// knowledge is what the guest knows of a name, to tell whether that changed
// while the name was looked at.
type knowledge struct {
	gen   uint32
	known bool
	st    state
}

func knowledgeLocked(e *entry) knowledge {
	if e == nil {
		return knowledge{}
	}
	return knowledge{e.gen, e.known, e.st}
}

// requeueLocked puts a hint back to the front.
func (t *Tree) requeueLocked(h *hint) {
	t.queue = append([]*hint{h}, t.queue...)
	if h.op == watch.Rename {
		t.renames++
	} else {
		if p := (place{h.dir, h.name}); t.index[p] == nil {
			t.index[p] = h
		}
	}
	t.poke()
}

// comparison is a name as the guest knows it, e, beside what is.
type comparison struct {
	t     *Tree
	h     *hint
	e     *entry
	st    state
	there bool
	file  p9srv.FileID
	// shared says that the guest has the file open for writing and so has
	// another machine.
	shared bool
}

// stepsLocked returns what the guest must be told.
func (c *comparison) stepsLocked() []*Step {
	switch {
	case c.t.cfg.Single:
		if c.there && c.e != nil {
			return c.singleLocked()
		}
		return nil
	case !c.there:
		return c.absentLocked()
	case c.e == nil || c.e.gone:
		return c.newLocked()
	case !c.e.known:
		// It was looked up, but not told of, or only by the agent.
		c.e.st, c.e.known = c.st, true
		if c.h.op&watch.Create != 0 {
			return c.newLocked()
		}
		return c.hintedLocked()
	case c.e.st.id != c.st.id:
		gone := c.step(Remove, c.e.st.mode.IsDir())
		c.e = nil
		c.h.op = c.h.op&^watch.Remove | watch.Create
		return append([]*Step{gone}, c.newLocked()...)
	}
	return c.sameLocked()
}

func (c *comparison) step(k Kind, isDir bool) *Step {
	s := &Step{Kind: k, IsDir: isDir, Name: c.h.name, dir: c.h.dir, e: c.e, st: c.st, h: c.h}
	if c.e != nil {
		s.gen = c.e.gen
	}
	return s
}

// absentLocked is for a name that is not there.
func (c *comparison) absentLocked() []*Step {
	switch {
	case c.e == nil:
		if c.h.op&watch.Remove == 0 {
			return nil
		}
		gone := c.step(Remove, c.h.isDir)
		if c.h.op&watch.Create != 0 {
			return []*Step{c.step(Create, c.h.isDir), gone}
		}
		return []*Step{gone}
	case c.e.gone, !c.e.known && !c.e.looked:
		return nil
	}
	return []*Step{c.step(Remove, c.e.st.mode.IsDir() || c.e.sub != nil || c.h.isDir)}
}

// newLocked is for a file that the guest has not been told of.
func (c *comparison) newLocked() []*Step {
	var steps []*Step
	op := c.h.op
	if c.e == nil && op&(watch.Create|watch.Remove) == watch.Create|watch.Remove && c.h.tries == 0 {
		steps = append(steps, c.step(Remove, c.h.isDir))
	}
	if op&watch.Create != 0 {
		s := c.step(Create, c.st.mode.IsDir())
		s.Known = c.e != nil && c.e.looked
		if s.Known && s.IsDir {
			return steps // a directory cannot be made to be unknown
		}
		steps = append(steps, s)
	}
	return append(steps, c.hintedLocked()...)
}

// hintedLocked tells what the hint says happened to a file whose state the
// guest does not know.
func (c *comparison) hintedLocked() []*Step {
	switch {
	case c.h.op&watch.Modify != 0 && c.st.mode.IsRegular():
		return c.modifyLocked()
	case c.h.op&watch.Attrib != 0:
		return []*Step{c.step(Attrib, c.st.mode.IsDir())}
	}
	return nil
}

// sameLocked is for a file that the guest knows, compared with what it knows.
func (c *comparison) sameLocked() []*Step {
	e, op := c.e, c.h.op
	if op&watch.Create != 0 && e.looked && !e.own && c.h.tries < maxTries {
		// The guest found it before it was told.
		return c.newLocked()
	}
	if c.st.mode.IsRegular() {
		changed := e.dirty || !c.t.knowsLocked(e, &c.st)
		racy := op&watch.Modify != 0 && !e.own && e.st.mtime == c.st.mtime
		if changed && (e.dirty || op&(watch.Modify|watch.Close|watch.Lost) != 0 || e.st.size != c.st.size) || racy {
			return c.modifyLocked()
		}
	}
	if op&(watch.Attrib|watch.Lost) != 0 && !c.t.knowsAttributesLocked(e, &c.st) {
		if c.t.putOffLinkLocked(e, op) {
			return nil
		}
		return []*Step{c.step(Attrib, c.st.mode.IsDir())}
	}
	return nil
}

// modifyLocked tells of changed contents, unless the guest has the file open
// for writing: then at the last close, or now if its cache is taken back.
func (c *comparison) modifyLocked() []*Step {
	o := c.t.opens[c.file]
	if o != nil && (!c.shared || o.wroteLocked(&c.st)) {
		c.lateLocked(o)
		return nil
	}
	s := c.step(Modify, false)
	s.Size, s.shared = c.st.size, o != nil
	return []*Step{s}
}

// lateLocked has the hint looked into after the last close.
func (c *comparison) lateLocked(o *opened) {
	if o.late == nil {
		o.late = map[place]watch.Op{}
	}
	o.late[place{c.h.dir, c.h.name}] |= c.h.op
}

// singleLocked is for the one file of a tree for the sake of one.
func (c *comparison) singleLocked() []*Step {
	if c.e.known && !c.e.dirty && c.e.st.id == c.st.id && c.e.st.sameContents(&c.st) {
		if c.e.st.sameAttributes(&c.st) {
			return nil
		}
		return []*Step{c.step(Attrib, false)}
	}
	return c.modifyLocked()
}

// considerRename makes a step of a rename if the file is where it led and is
// the one that the guest knows; else its two names are looked at by
// themselves.
func (t *Tree) considerRename(h *hint) (steps []*Step, split bool) {
	t.mu.Lock()
	from, to := place{h.dir, h.name}, place{h.to, h.toName}
	if h.dir.gone || h.to.gone {
		t.apartLocked(h)
		t.mu.Unlock()
		return nil, false
	}
	if len(t.armed[from]) > 0 || len(t.armed[to]) > 0 {
		t.requeueLocked(h)
		t.mu.Unlock()
		return nil, true
	}
	toNode := h.to.node.Clone()
	t.mu.Unlock()
	defer toNode.Release()
	n, st := look(toNode, h.toName)
	t.mu.Lock()
	defer t.mu.Unlock()
	src, dst := from.dir.entries[from.name], to.dir.entries[to.name]
	if src != nil && src.busy > 0 || dst != nil && dst.busy > 0 {
		t.apartLocked(h)
		release(n)
		return nil, false
	}
	if dst != nil && dst.own && dst.known && n != nil && dst.st.id == st.id && (src == nil || src.gone) {
		release(n)
		return nil, false // the guest did it
	}
	told := src != nil && src.known && !src.gone
	if n == nil || t.cfg.Single || told && src.st.id != st.id ||
		dst != nil && dst.known && !dst.gone && dst.st.id == st.id {
		t.apartLocked(h)
		release(n)
		return nil, false
	}
	s := &Step{
		Kind: Rename, IsDir: st.mode.IsDir(), Name: h.name, ToName: h.toName,
		dir: h.dir, to: h.to, e: src, st: st, h: h, node: n,
	}
	if src != nil {
		s.gen = src.gen
	}
	t.armLocked(s)
	return []*Step{s}, false
}

func release(n p9srv.Node) {
	if n != nil {
		n.Release()
	}
}

// apartLocked turns a rename into hints for its two names.
func (t *Tree) apartLocked(h *hint) {
	t.queueLocked(&hint{dir: h.dir, name: h.name, op: watch.Remove, isDir: h.isDir, tries: h.tries})
	t.queueLocked(&hint{dir: h.to, name: h.toName, op: watch.Create | watch.Modify, isDir: h.isDir, tries: h.tries})
}
