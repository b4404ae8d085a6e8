// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"sync/atomic"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// node is a file of the tree below as the guest refers to it. What it does
// not do itself the tree below does.
type node struct {
	p9srv.Node
	t *Tree
	// e is the name it was found by, nil if that is not followed.
	e *entry
	// nameless says that the file never had a name.
	nameless bool
	// named is the file that was opened in place of one that lost its name,
	// valid while it is open: what is asked of the fid, or done with it, is
	// about that one from then on.
	named atomic.Pointer[node]
}

var _ p9srv.Node = (*node)(nil)

func isDir(n p9srv.Node) bool { return n.QID().Type&p9.QTDir != 0 }

// below returns the node of the tree below that n stands for.
func below(n p9srv.Node) p9srv.Node {
	switch n := n.(type) {
	case *node:
		return n.Node
	case *mirror:
		return n.inner
	}
	return n
}

// Clone returns another reference.
func (n *node) Clone() p9srv.Node {
	n.t.retain(n.e)
	return &node{Node: n.Node.Clone(), t: n.t, e: n.e, nameless: n.nameless}
}

// Release gives up the reference.
func (n *node) Release() {
	n.Node.Release()
	n.t.release(n.e)
}

func (t *Tree) retain(e *entry) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.refs++
}

func (t *Tree) release(e *entry) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.refs--
	t.settleLocked(e)
	t.trimLocked()
}

// Walk looks a name up; the guest knows it from then on.
func (n *node) Walk(name string) (p9srv.Node, linux.Errno) {
	c, e := n.Node.Walk(name)
	if e != 0 {
		return nil, e
	}
	return n.t.enter(n.e, name, c), 0
}

// Getattr tells of the file. Of one that lost its name it says so: ENOENT
// makes Linux's client look the name up anew, where ESTALE would reach the
// process (v9fs_lookup_revalidate).
func (n *node) Getattr(mask uint64, a *p9.Attr) linux.Errno {
	if named := n.named.Load(); named != nil {
		return named.Node.Getattr(mask, a)
	}
	errno := n.Node.Getattr(mask, a)
	if errno == linux.ESTALE {
		return linux.ENOENT
	}
	if errno == 0 && n.e != nil {
		n.t.mu.Lock()
		if !n.e.known && n.e.busy == 0 && !n.e.gone {
			n.e.st, n.e.known = stateOf(a), true
			n.t.foundLocked(n.e)
		}
		n.t.mu.Unlock()
	}
	return errno
}

// Open opens the file. Files open for writing are counted: what the host
// changes in them is not replayed while the guest may hold changes of its own.
//
// A file that has lost its name to another, of which the guest is still to be
// told, is opened as the other, and not to be cached: an editor that saves by
// renaming over must not be seen as an error. One that the host has written
// since the guest was last told of it is not to be cached either: the guest
// would cut it off at its old size, or append there. Nor is one in a directory
// that is not followed: the guest would never learn of what the host writes.
func (n *node) Open(flags linux.OpenFlags) (p9srv.File, linux.Errno) {
	changed := flags&linux.OTrunc == 0 && n.changed()
	f, e := n.open(flags)
	switch {
	case e == linux.ESTALE:
		return n.openNamed(flags)
	case e == 0 && !isDir(n) && (changed || n.replaces() || n.untracked()):
		return &uncached{File: f, id: n.FileID()}, 0
	}
	return f, e
}

func (n *node) open(flags linux.OpenFlags) (p9srv.File, linux.Errno) {
	if !flags.Writes() {
		return n.Node.Open(flags)
	}
	end := n.t.opening(n)
	f, e := n.Node.Open(flags)
	if e != 0 {
		end()
		return nil, e
	}
	return n.t.writer(n, f, flags), 0
}

// Create makes and opens a file.
func (n *node) Create(name string, flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	var c p9srv.Node
	var f p9srv.File
	e := n.t.make(n.e, name, func() (e linux.Errno) {
		c, f, e = n.Node.Create(name, flags, mode, o)
		return e
	})
	if e != 0 {
		return nil, nil, e
	}
	child := n.t.enter(n.e, name, c)
	if flags.Writes() {
		n.t.opening(child)
		f = n.t.writer(child, f, flags)
	}
	if child.untracked() {
		f = &uncached{File: f, id: child.FileID()}
	}
	return child, f, 0
}

// Mkdir makes a directory.
func (n *node) Mkdir(name string, mode linux.Mode, o p9srv.Owner) (q p9.QID, e linux.Errno) {
	e = n.t.make(n.e, name, func() linux.Errno { q, e = n.Node.Mkdir(name, mode, o); return e })
	return q, e
}

// Symlink makes a symbolic link.
func (n *node) Symlink(name, target string, o p9srv.Owner) (q p9.QID, e linux.Errno) {
	e = n.t.make(n.e, name, func() linux.Errno { q, e = n.Node.Symlink(name, target, o); return e })
	return q, e
}

// Mknod makes a device, FIFO, socket or file.
func (n *node) Mknod(name string, mode linux.Mode, major, minor uint32, o p9srv.Owner) (q p9.QID, e linux.Errno) {
	e = n.t.make(n.e, name, func() linux.Errno { q, e = n.Node.Mknod(name, mode, major, minor, o); return e })
	return q, e
}

// Link gives target another name.
func (n *node) Link(target p9srv.Node, name string) linux.Errno {
	tn, ok := target.(*node)
	if !ok {
		return linux.EXDEV
	}
	return n.t.alter(tn, 0, func() linux.Errno {
		return n.t.make(n.e, name, func() linux.Errno { return n.Node.Link(tn.Node, name) })
	})
}

// Setattr changes attributes.
func (n *node) Setattr(s *p9.SetAttr, f p9srv.File) linux.Errno {
	if named := n.named.Load(); named != nil {
		return named.Setattr(s, f)
	}
	return n.t.alter(n, s.Valid, func() linux.Errno {
		e := n.Node.Setattr(s, plainFile(f))
		if e == 0 && s.Valid&p9.SetSize != 0 {
			n.t.resized(n.FileID(), s.Size, false)
		}
		return e
	})
}

// Setxattr sets an extended attribute.
func (n *node) Setxattr(name string, value []byte, flags uint32) linux.Errno {
	return n.t.alter(n, 0, func() linux.Errno { return n.Node.Setxattr(name, value, flags) })
}

// Removexattr removes one.
func (n *node) Removexattr(name string) linux.Errno {
	return n.t.alter(n, 0, func() linux.Errno { return n.Node.Removexattr(name) })
}

// Unlinkat removes a name.
func (n *node) Unlinkat(name string, flags uint32) linux.Errno {
	e := n.t.begin(n.e, name)
	errno := n.t.aliased(e, n.Node, name, func() linux.Errno { return n.Node.Unlinkat(name, flags) })
	n.t.removed(e, errno == 0)
	return errno
}

// Remove removes the name that the node is known by.
func (n *node) Remove() linux.Errno {
	e := n.t.beginOn(n.e)
	errno := n.t.changing(e, n.Node, n.Node.Remove)
	n.t.removed(e, errno == 0)
	return errno
}

// Tmpfile makes a file without a name, which is not followed.
func (n *node) Tmpfile(flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	c, f, e := n.Node.Tmpfile(flags, mode, o)
	if e != 0 {
		return nil, nil, e
	}
	child := &node{Node: c, t: n.t, nameless: true}
	n.t.opening(child)
	return child, n.t.writer(child, f, flags), 0
}

// Renameat moves a name.
func (n *node) Renameat(oldName string, newDir p9srv.Node, newName string, flags uint32) linux.Errno {
	to, ok := newDir.(*node)
	if !ok {
		return linux.EXDEV
	}
	src, dst := n.t.begin(n.e, oldName), n.t.begin(to.e, newName)
	errno := n.t.aliased(dst, to.Node, newName, func() linux.Errno {
		return n.Node.Renameat(oldName, to.Node, newName, flags)
	})
	if flags == linux.RenameExchange {
		n.t.exchanged(src, dst, errno == 0)
		return errno
	}
	n.t.renamed(src, dst, errno == 0)
	return errno
}

// Rename moves the file from the name it is known by.
func (n *node) Rename(newDir p9srv.Node, name string) linux.Errno {
	to, ok := newDir.(*node)
	if !ok {
		return linux.EXDEV
	}
	src, dst := n.t.beginOn(n.e), n.t.begin(to.e, name)
	errno := n.t.aliased(dst, to.Node, name, func() linux.Errno { return n.Node.Rename(to.Node, name) })
	n.t.renamed(src, dst, errno == 0)
	return errno
}
