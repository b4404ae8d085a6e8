// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// opened is a file that the guest has open for writing. While it has, its
// caches may hold what the host has not seen, and are left alone.
type opened struct {
	writers int
	// size is what the guest's own changes make the size; unknown says that
	// they do not tell.
	size    uint64
	unknown bool
	// from and to are when the guest's last write began and ended.
	from, to time.Time
	// late are the names whose hints wait for the last close.
	late map[place]watch.Op
}

// clockStep is how far a file's times may lag behind the clock.
const clockStep = 20 * time.Millisecond

// wroteLocked says that the guest's own last write explains st.
func (o *opened) wroteLocked(st *state) bool {
	m := time.Unix(st.mtime.Sec, st.mtime.Nsec)
	return !m.Before(o.from.Add(-clockStep)) && !m.After(o.to) && (o.unknown || o.size == st.size)
}

// shared says whether the guest has a file open for writing that another
// machine has, too, and can be made to give up its cache.
func (t *Tree) shared(n p9srv.Node) bool {
	if !t.cfg.Reclaims || !t.writing(n.FileID()) {
		return false
	}
	f, e := n.Open(0)
	if e != 0 {
		return false
	}
	defer f.Close()
	s, ok := f.(p9srv.Shared)
	return ok && s.WrittenElsewhere()
}

// file is a file open for writing.
type file struct {
	p9srv.File
	n      *node
	id     p9srv.FileID
	append bool
}

var (
	_ p9srv.Lockable = (*file)(nil)
	_ p9srv.Shared   = (*file)(nil)
)

// nowaitFile is one whose reads may be answered from memory.
type nowaitFile struct {
	*file
	p9srv.NowaitReader
}

// plainFile returns the file of the tree below.
func plainFile(f p9srv.File) p9srv.File {
	switch f := f.(type) {
	case *file:
		return f.File
	case *nowaitFile:
		return f.File
	case *uncached:
		return plainFile(f.File)
	}
	return f
}

// opening counts n among the files open for writing. The returned function
// undoes that.
func (t *Tree) opening(n *node) func() {
	id := n.FileID()
	var a p9.Attr
	told := n.Node.Getattr(p9.AttrAll, &a) == 0
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[id]
	if o == nil {
		o = &opened{size: a.Size, unknown: !told}
		t.opens[id] = o
		if st := stateOf(&a); told && n.e != nil && n.e.known && n.e.st.id == st.id && !t.knowsLocked(n.e, &st) {
			n.e.dirty = true // what the host did is still to be told
		}
	}
	o.writers++
	return func() { t.closed1(n, id, nil) }
}

// writer wraps a file of a node that was counted by opening.
func (t *Tree) writer(n *node, f p9srv.File, flags linux.OpenFlags) p9srv.File {
	w := &file{File: f, n: n, id: n.FileID(), append: flags&linux.OAppend != 0}
	if flags&linux.OTrunc != 0 {
		t.resized(w.id, 0, false)
	}
	if r, ok := f.(p9srv.NowaitReader); ok {
		return &nowaitFile{w, r}
	}
	return w
}

// WrittenElsewhere is the file's below.
func (f *file) WrittenElsewhere() bool {
	s, ok := f.File.(p9srv.Shared)
	return ok && s.WrittenElsewhere()
}

// Mapped is the file's below.
func (f *file) Mapped() linux.Errno {
	if m, ok := f.File.(p9srv.Mappable); ok {
		return m.Mapped()
	}
	return 0
}

// FileID and HostLock are the file's below: its locks are the host's whoever
// follows it.
func (f *file) FileID() p9srv.FileID {
	if k, ok := f.File.(p9srv.Lockable); ok {
		return k.FileID()
	}
	return f.n.FileID()
}

// HostLock is described with FileID.
func (f *file) HostLock() p9srv.HostLock {
	if k, ok := f.File.(p9srv.Lockable); ok {
		return k.HostLock()
	}
	return nil
}

// resized notes what a change of the guest's own makes the size.
func (t *Tree) resized(id p9srv.FileID, size uint64, atLeast bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.opens[id]; o != nil && (!atLeast || size > o.size) {
		o.size = size
	}
}

// Write writes and notes how far, and when.
func (f *file) Write(p []byte, off int64) (int, linux.Errno) {
	from := time.Now()
	n, e := f.File.Write(p, off)
	if n <= 0 {
		return n, e
	}
	t := f.n.t
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[f.id]
	if o == nil {
		return n, e
	}
	o.from, o.to = from, time.Now()
	if f.append {
		o.unknown = true
	} else {
		o.size = max(o.size, uint64(off)+uint64(n))
	}
	return n, e
}

// Allocate notes what the range makes the size.
func (f *file) Allocate(mode uint32, off, n int64) linux.Errno {
	e := f.File.Allocate(mode, off, n)
	if e == 0 && mode&linux.FallocKeepSize == 0 {
		f.n.t.resized(f.id, uint64(off)+uint64(n), true)
	}
	return e
}

// Close closes the file. With its last writer the guest knows the file as it
// is, unless the host changed it meanwhile.
func (f *file) Close() linux.Errno {
	var a *p9.Attr
	if got := new(p9.Attr); f.n.Node.Getattr(p9.AttrAll, got) == 0 {
		a = got
	}
	e := f.File.Close()
	f.n.t.closed1(f.n, f.id, a)
	return e
}

// closed1 counts one writer less; a tells of the file as it is, if known.
func (t *Tree) closed1(n *node, id p9srv.FileID, a *p9.Attr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.opens[id]
	if o == nil {
		return
	}
	if o.writers--; o.writers > 0 {
		return
	}
	delete(t.opens, id)
	if a != nil && a.Nlink > 0 && (n.e == nil || n.e.dir == nil) && (o.unknown || o.size == a.Size) {
		t.toldByHandleLocked(a)
	}
	if e := n.e; a != nil && e != nil && e.dir != nil && (!e.known || e.st.id == a.QID) {
		if !o.unknown && o.size != a.Size {
			e.dirty = true
		}
		if !e.dirty {
			e.st, e.known, e.own = stateOf(a), true, true
			t.toldLocked(&e.st)
		} else {
			t.queueLocked(&hint{dir: e.dir, name: e.name, op: watch.Modify | watch.Close})
		}
	}
	for p, op := range o.late {
		t.queueLocked(&hint{dir: p.dir, name: p.name, op: op})
	}
}
