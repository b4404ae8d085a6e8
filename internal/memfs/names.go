// SPDX-License-Identifier: Apache-2.0

package memfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// addLocked makes a file with a free name.
func (n *node) addLocked(name string, mode linux.Mode, o p9srv.Owner) (*inode, linux.Errno) {
	if n.ino.dead() {
		return nil, linux.ENOENT
	}
	if n.ino.names[name] != nil {
		return nil, linux.EEXIST
	}
	if n.ino.mode&linux.SetGID != 0 {
		o.GID = n.ino.gid
		if mode.IsDir() {
			mode |= linux.SetGID
		}
	}
	c := n.fs.newInode(mode, o)
	if mode.IsDir() {
		c.nlink = 2
	}
	n.ino.enter(name, c, n.fs.clock())
	return c, 0
}

// Create makes and opens a file, or opens the one that is there.
func (n *node) Create(name string, flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	c, e := n.addLocked(name, linux.TypeRegular|mode, o)
	if e == linux.EEXIST && flags&linux.OExcl == 0 {
		c = n.ino.names[name]
		e = 0
	}
	if e != 0 {
		return nil, nil, e
	}
	switch {
	case c.mode.IsDir():
		return nil, nil, linux.EISDIR
	case c.mode.IsSymlink():
		return nil, nil, linux.ELOOP
	}
	f, e := (&node{n.fs, c}).openLocked(flags)
	if e != 0 {
		return nil, nil, e
	}
	return &node{n.fs, c}, f, 0
}

// Mkdir makes a directory.
func (n *node) Mkdir(name string, mode linux.Mode, o p9srv.Owner) (p9.QID, linux.Errno) {
	return n.make(name, linux.TypeDir|mode, o, func(*inode) {})
}

// Symlink makes a symbolic link.
func (n *node) Symlink(name, target string, o p9srv.Owner) (p9.QID, linux.Errno) {
	return n.make(name, linux.TypeSymlink|0o777, o, func(i *inode) { i.target = target })
}

// Mknod makes a special file.
func (n *node) Mknod(name string, mode linux.Mode, major, minor uint32, o p9srv.Owner) (p9.QID, linux.Errno) {
	return n.make(name, mode, o, func(i *inode) {
		if t := mode.Type(); t == linux.TypeChar || t == linux.TypeBlock {
			i.major, i.minor = major, minor
		}
	})
}

func (n *node) make(name string, mode linux.Mode, o p9srv.Owner, with func(*inode)) (p9.QID, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	c, e := n.addLocked(name, mode, o)
	if e != 0 {
		return p9.QID{}, e
	}
	with(c)
	return c.qid(), 0
}

// Link gives a file another name.
func (n *node) Link(target p9srv.Node, name string) linux.Errno {
	t, ok := target.(*node)
	if !ok || t.fs != n.fs {
		return linux.EXDEV
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if n.ino.names[name] != nil {
		return linux.EEXIST
	}
	switch {
	case t.ino.mode.IsDir():
		return linux.EPERM
	case t.ino.nlink == 0 && !t.ino.linkable || n.ino.dead():
		return linux.ENOENT
	}
	t.ino.nlink++
	t.ino.linkable = false
	n.ino.enter(name, t.ino, n.fs.clock())
	return 0
}

// Unlinkat removes a name.
func (n *node) Unlinkat(name string, flags uint32) linux.Errno {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return n.fs.unlinkLocked(n.ino, name, flags&linux.AtRemovedir != 0)
}

func (fs *FS) unlinkLocked(dir *inode, name string, rmdir bool) linux.Errno {
	c := dir.names[name]
	switch {
	case c == nil:
		return linux.ENOENT
	case rmdir && !c.mode.IsDir():
		return linux.ENOTDIR
	case !rmdir && c.mode.IsDir():
		return linux.EISDIR
	case rmdir && len(c.entries) > 0:
		return linux.ENOTEMPTY
	}
	dir.leave(name, fs.clock())
	if c.mode.IsDir() {
		c.nlink = 0
	} else {
		c.nlink--
	}
	return 0
}

// Renameat moves a name.
func (n *node) Renameat(oldName string, newDir p9srv.Node, newName string, flags uint32) linux.Errno {
	to, ok := newDir.(*node)
	if !ok || to.fs != n.fs {
		return linux.EXDEV
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if flags == linux.RenameExchange {
		return n.fs.exchangeLocked(n.ino, oldName, to.ino, newName)
	}
	if flags == linux.RenameNoreplace && n.ino.names[oldName] != nil && to.ino.names[newName] != nil {
		return linux.EEXIST
	}
	return n.fs.renameLocked(n.ino, oldName, to.ino, newName)
}

// exchangeLocked gives two files each other's names.
func (fs *FS) exchangeLocked(dir *inode, name string, newDir *inode, newName string) linux.Errno {
	a, b := dir.names[name], newDir.names[newName]
	switch {
	case a == nil || b == nil:
		return linux.ENOENT
	case a == b:
		return 0
	case a.mode.IsDir() && a.above(newDir) || b.mode.IsDir() && b.above(dir):
		return linux.EINVAL
	}
	dir.leave(name, fs.clock())
	newDir.leave(newName, fs.clock())
	newDir.enter(newName, a, fs.clock())
	dir.enter(name, b, fs.clock())
	return 0
}

// Tmpfile makes a file that only its node leads to.
func (n *node) Tmpfile(flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if n.ino.mode&linux.SetGID != 0 {
		o.GID = n.ino.gid
	}
	i := n.fs.newInode(mode|linux.TypeRegular, o)
	i.nlink, i.linkable = 0, true
	return &node{fs: n.fs, ino: i}, &file{n.fs, i, flags}, 0
}

func (fs *FS) renameLocked(dir *inode, name string, newDir *inode, newName string) linux.Errno {
	c := dir.names[name]
	if c == nil || newDir.dead() {
		return linux.ENOENT
	}
	if c.mode.IsDir() && c.above(newDir) {
		return linux.EINVAL
	}
	if old := newDir.names[newName]; old != nil {
		if old == c {
			return 0
		}
		if old.mode.IsDir() && old.above(dir) {
			return linux.ENOTEMPTY
		}
		if e := fs.replaceLocked(c, newDir, newName, old); e != 0 {
			return e
		}
	}
	dir.leave(name, fs.clock())
	newDir.enter(newName, c, fs.clock())
	return 0
}

// replaceLocked removes what c is to take the name of.
func (fs *FS) replaceLocked(c, dir *inode, name string, old *inode) linux.Errno {
	switch {
	case c.mode.IsDir() && !old.mode.IsDir():
		return linux.ENOTDIR
	case !c.mode.IsDir() && old.mode.IsDir():
		return linux.EISDIR
	}
	return fs.unlinkLocked(dir, name, old.mode.IsDir())
}

// above says whether d is i or lies below it.
func (i *inode) above(d *inode) bool {
	for ; d != i; d = d.parent {
		if d.parent == d {
			return false
		}
	}
	return true
}

// Rename moves the file from the name that last led to it.
func (n *node) Rename(newDir p9srv.Node, name string) linux.Errno {
	to, ok := newDir.(*node)
	if !ok || to.fs != n.fs {
		return linux.EXDEV
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	dir, old, e := n.knownLocked()
	if e != 0 {
		return e
	}
	return n.fs.renameLocked(dir, old, to.ino, name)
}

// Remove removes the name that last led to the file.
func (n *node) Remove() linux.Errno {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	dir, name, e := n.knownLocked()
	if e != 0 {
		return e
	}
	return n.fs.unlinkLocked(dir, name, n.ino.mode.IsDir())
}

func (n *node) knownLocked() (*inode, string, linux.Errno) {
	if n.ino == n.fs.root {
		return nil, "", linux.EBUSY
	}
	if n.ino.in.names[n.ino.name] == n.ino {
		return n.ino.in, n.ino.name, 0
	}
	return nil, "", linux.ENOENT
}
