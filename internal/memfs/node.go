// SPDX-License-Identifier: Apache-2.0

package memfs

import (
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

type node struct {
	fs  *FS
	ino *inode
}

var _ p9srv.Node = (*node)(nil)

// QID returns the node's QID.
func (n *node) QID() p9.QID {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return n.ino.qid()
}

// FileID returns what locks are keyed by.
func (n *node) FileID() p9srv.FileID { return p9srv.FileID{File: n.ino.num} }

// Clone returns the node.
func (n *node) Clone() p9srv.Node { return n }

// Release does nothing: memory is given back when nothing refers to it.
func (n *node) Release() {}

// Walk looks a name up.
func (n *node) Walk(name string) (p9srv.Node, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	c := n.ino.names[name]
	if c == nil {
		return nil, linux.ENOENT
	}
	return &node{n.fs, c}, 0
}

// Getattr tells all there is.
func (n *node) Getattr(_ uint64, a *p9.Attr) linux.Errno {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	n.ino.attr(a)
	return 0
}

// Setattr changes size, owner, mode and times, in this order.
func (n *node) Setattr(s *p9.SetAttr, _ p9srv.File) linux.Errno {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	now := n.fs.clock()
	i := n.ino
	if s.Valid&p9.SetMode != 0 && i.mode.IsSymlink() {
		return linux.EOPNOTSUPP
	}
	if s.Valid&p9.SetSize != 0 {
		if e := i.truncate(s.Size, now); e != 0 {
			return e
		}
	}
	i.setOwner(s)
	if s.Valid&p9.SetMode != 0 {
		i.mode = i.mode.Type() | s.Mode.Perm()
	}
	if s.Valid&p9.SetAtime != 0 {
		i.atime = choose(s.Valid&p9.SetAtimeSet != 0, s.Atime, now)
	}
	if s.Valid&p9.SetMtime != 0 {
		i.mtime = choose(s.Valid&p9.SetMtimeSet != 0, s.Mtime, now)
	}
	i.ctime = now
	return 0
}

func choose(set bool, t p9.Time, now time.Time) time.Time {
	if set {
		return time.Unix(t.Sec, t.Nsec)
	}
	return now
}

func (i *inode) setOwner(s *p9.SetAttr) {
	if s.Valid&p9.SetUID != 0 {
		i.uid = s.UID
	}
	if s.Valid&p9.SetGID != 0 {
		i.gid = s.GID
	}
	if s.Valid&(p9.SetUID|p9.SetGID) == 0 || i.mode.IsDir() {
		return
	}
	i.mode &^= linux.SetUID
	if i.mode&0o010 != 0 {
		i.mode &^= linux.SetGID
	}
}

// maxSize bounds a file: this is memory.
const maxSize = 1 << 30

func (i *inode) truncate(size uint64, now time.Time) linux.Errno {
	switch {
	case i.mode.IsDir():
		return linux.EISDIR
	case !i.mode.IsRegular():
		return linux.EINVAL
	case size > maxSize:
		return linux.EFBIG
	}
	if size <= uint64(len(i.data)) {
		clear(i.data[size:])
		i.data = i.data[:size]
	} else {
		i.data = append(i.data, make([]byte, size-uint64(len(i.data)))...)
	}
	i.mtime = now
	return 0
}

// Statfs tells of a file system of a gibibyte.
func (n *node) Statfs(s *p9.Statfs) linux.Errno {
	*s = p9.Statfs{
		Type: 0x01021994, Bsize: 4096, Blocks: maxSize / 4096, Bfree: maxSize / 4096,
		Bavail: maxSize / 4096, Files: 1 << 20, Ffree: 1 << 20, NameLen: linux.NameMax,
	}
	return 0
}

// Readlink returns a link's target.
func (n *node) Readlink() (string, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if !n.ino.mode.IsSymlink() {
		return "", linux.EINVAL
	}
	return n.ino.target, 0
}
