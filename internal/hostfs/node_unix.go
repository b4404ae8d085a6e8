// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// node is a fid's reference to an inode, with the name it was walked by.
type node struct {
	fs   *FS
	ino  *inode
	mode linux.Mode
	dir  *inode
	name string
}

var _ p9srv.Node = (*node)(nil)

// QID returns the node's QID.
func (n *node) QID() p9.QID { return n.fs.qid(n.ino.id, n.mode) }

// FileID returns the host's own name for the file.
func (n *node) FileID() p9srv.FileID {
	return p9srv.FileID{Volume: n.ino.id.dev, File: n.ino.id.ino}
}

// Clone returns another reference.
func (n *node) Clone() p9srv.Node {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	n.ino.refs++
	if n.dir != nil {
		n.dir.refs++
	}
	c := *n
	return &c
}

// Release gives up the reference.
func (n *node) Release() {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	n.fs.unrefLocked(n.ino)
	n.fs.unrefLocked(n.dir)
}

// Walk looks a name up.
func (n *node) Walk(name string) (p9srv.Node, linux.Errno) {
	c, e := n.walk(name)
	if e != 0 {
		return nil, e
	}
	return c, 0
}

func (n *node) walk(name string) (*node, linux.Errno) {
	dfd, e := n.fs.acquire(n.ino)
	if e != 0 {
		return nil, e
	}
	defer n.fs.unpin(n.ino)
	var st stat
	if e := n.fs.statPlace(dfd, name, &st); e != 0 {
		return nil, e
	}
	return n.child(name, &st), 0
}

// child makes a node of what was found as name.
func (n *node) child(name string, st *stat) *node {
	i := n.fs.intern(st, n.ino, name)
	n.fs.ref(n.ino)
	return &node{fs: n.fs, ino: i, mode: st.mode, dir: n.ino, name: name}
}

// Getattr tells all there is, whatever is asked for.
func (n *node) Getattr(_ uint64, a *p9.Attr) linux.Errno {
	var st stat
	if e := n.fs.stat(n.ino, &st); e != 0 {
		return e
	}
	n.fs.fill(&st, a)
	return 0
}

// Statfs tells of the host's file system.
func (n *node) Statfs(s *p9.Statfs) linux.Errno {
	fd, e := n.fs.acquire(n.ino)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	return n.fs.errno(statfs(fd, s))
}

// Readlink returns a link's target.
func (n *node) Readlink() (string, linux.Errno) {
	if !n.ino.kind.IsSymlink() {
		return "", linux.EINVAL
	}
	fd, e := n.fs.acquire(n.ino)
	if e != 0 {
		return "", e
	}
	defer n.fs.unpin(n.ino)
	target, err := readlink(fd)
	return target, n.fs.errno(err)
}

// writable refuses changes to what is exported read-only.
func (fs *FS) writable() linux.Errno {
	if fs.cfg.ReadOnly {
		return linux.EROFS
	}
	return 0
}
