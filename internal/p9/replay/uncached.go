// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// uncached is an open file that the guest must not cache: its caches are about
// to be told of another file under the name, or of other contents, or would
// not be told.
type uncached struct {
	p9srv.File
	id p9srv.FileID
	// node is what was opened, to be released with it; nil if that is the
	// fid's own.
	node *node
}

var (
	_ p9srv.Lockable = (*uncached)(nil)
	_ p9srv.Shared   = (*uncached)(nil)
)

// replaces says that the guest knows another file under n's name: what it has
// cached may be the other's.
func (n *node) replaces() bool {
	t := n.t
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.e != nil && n.e.known && !n.e.gone && n.e.st.id != n.QID() && !t.cfg.Single
}

// untracked says that what the host does to n is not followed.
func (n *node) untracked() bool { return n.e == nil && !n.nameless }

// changed says that the host has written n's file since the guest was told of
// it, or that it is being told: until its agent has reported, the guest may know
// the old size.
func (n *node) changed() bool {
	var a p9.Attr
	if n.e == nil || isDir(n) || n.Node.Getattr(p9.AttrAll, &a) != 0 || !a.Mode.IsRegular() {
		return false
	}
	t, st := n.t, stateOf(&a)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := n.e
	if !e.known || e.gone || e.busy > 0 || e.st.id != st.id || t.opens[n.FileID()] != nil {
		return false
	}
	if !t.knowsLocked(e, &st) {
		t.noticedLocked(e)
		return true
	}
	return e.dirty || len(t.armed[place{e.dir, e.name}]) > 0
}

// openNamed opens the file that has n's name now.
func (n *node) openNamed(flags linux.OpenFlags) (p9srv.File, linux.Errno) {
	dir, name := n.t.holdLast(n.e)
	if dir == nil {
		return nil, linux.ESTALE
	}
	defer dir.Release()
	c, e := dir.Walk(name)
	if e != 0 {
		return nil, e
	}
	if c.QID().Type != n.QID().Type {
		c.Release()
		return nil, linux.ESTALE
	}
	n.t.retain(n.e)
	named := &node{Node: c, t: n.t, e: n.e}
	f, e := named.open(flags)
	if e != 0 {
		named.Release()
		return nil, e
	}
	n.named.Store(named)
	return &uncached{File: f, id: named.FileID(), node: named}, 0
}

// WrittenElsewhere is true: the client is told not to cache.
func (u *uncached) WrittenElsewhere() bool { return true }

// Mapped is refused: what is not cached is not mapped for writing.
func (u *uncached) Mapped() linux.Errno { return linux.ETXTBSY }

// FileID and HostLock are the file's below.
func (u *uncached) FileID() p9srv.FileID {
	if k, ok := u.File.(p9srv.Lockable); ok {
		return k.FileID()
	}
	return u.id
}

// HostLock is described with FileID.
func (u *uncached) HostLock() p9srv.HostLock {
	if k, ok := u.File.(p9srv.Lockable); ok {
		return k.HostLock()
	}
	return nil
}

// Close closes the file.
func (u *uncached) Close() linux.Errno {
	e := u.File.Close()
	if u.node != nil {
		u.node.Release()
	}
	return e
}
