// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9/p9srv"
)

// Unlinkat removes a name. A file that the guest knows keeps a handle, so
// that it can still be used.
func (n *node) Unlinkat(name string, flags uint32) linux.Errno {
	if e := n.fs.writable(); e != 0 {
		return e
	}
	dfd, e := n.fs.acquire(n.ino)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	victim := n.fs.hold(dfd, n.ino, name)
	last := n.fs.lastName(dfd, name)
	err := unlinkAt(dfd, name, int(flags))
	n.fs.letGo(victim, n.ino, name, err == nil)
	if err == nil {
		n.fs.forget(last)
	}
	return n.fs.errno(err)
}

// hold pins the known inode that has a name, before the name goes; nil if
// there is none.
func (fs *FS) hold(dfd int, dir *inode, name string) *inode {
	var st stat
	if statAt(dfd, name, &st) != nil {
		return nil
	}
	i := fs.live(st.id)
	if i == nil {
		return nil
	}
	defer fs.unref(i)
	if _, ok := fs.pin(i); ok {
		return i
	}
	fd, e := fs.openIn(i, dir, name, 0)
	if e != 0 {
		return nil
	}
	fs.adopt(i, fd)
	return i
}

// letGo ends hold. If the name is gone and was the one that i was found by,
// i has none from now on.
func (fs *FS) letGo(i, dir *inode, name string, gone bool) {
	if i == nil {
		return
	}
	fs.mu.Lock()
	if gone && i.dir == dir && i.name == name {
		i.gone = true
	}
	fs.mu.Unlock()
	fs.unpin(i)
}

// Renameat moves a name.
func (n *node) Renameat(oldName string, newDir p9srv.Node, newName string, flags uint32) linux.Errno {
	to, ok := newDir.(*node)
	if !ok || to.fs != n.fs {
		return linux.EXDEV
	}
	if e := n.fs.writable(); e != 0 {
		return e
	}
	dfd, e := n.fs.acquire(n.ino)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	ndfd, e := n.fs.acquire(to.ino)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(to.ino)
	switch flags {
	case linux.RenameExchange:
		return n.fs.exchange(dfd, n.ino, oldName, ndfd, to.ino, newName)
	case linux.RenameNoreplace:
		return n.fs.move(dfd, n.ino, oldName, ndfd, to.ino, newName, renameNoreplaceAt)
	}
	return n.fs.move(dfd, n.ino, oldName, ndfd, to.ino, newName, renameAt)
}

// exchange gives two files each other's names.
func (fs *FS) exchange(dfd int, dir *inode, name string, ndfd int, newDir *inode, newName string) linux.Errno {
	var a, b stat
	if err := statAt(dfd, name, &a); err != nil {
		return fs.errno(err)
	}
	if err := statAt(ndfd, newName, &b); err != nil {
		return fs.errno(err)
	}
	if err := exchangeAt(dfd, name, ndfd, newName); err != nil {
		return fs.errno(err)
	}
	if a.id == b.id {
		return 0
	}
	fs.settle(a.id, newDir, newName)
	fs.settle(b.id, dir, name)
	return 0
}

// settle notes where a file is from now on, if the guest knows it.
func (fs *FS) settle(id fileID, dir *inode, name string) {
	i := fs.live(id)
	if i == nil {
		return
	}
	fs.mu.Lock()
	fs.moveLocked(i, dir, name)
	fs.mu.Unlock()
	fs.unref(i)
}

// renamer is one of the ways to rename.
type renamer func(dfd int, name string, ndfd int, newName string) error

func (fs *FS) move(dfd int, dir *inode, name string, ndfd int, newDir *inode, newName string, rename renamer) linux.Errno {
	var st stat
	if err := statAt(dfd, name, &st); err != nil {
		return fs.errno(err)
	}
	victim := fs.hold(ndfd, newDir, newName)
	if victim != nil && victim.id == st.id {
		fs.letGo(victim, nil, "", false)
		victim = nil
	}
	last := fs.lastName(ndfd, newName)
	if last == st.id {
		last = fileID{}
	}
	err := rename(dfd, name, ndfd, newName)
	fs.letGo(victim, newDir, newName, err == nil)
	if err != nil {
		return fs.errno(err)
	}
	fs.forget(last)
	fs.settle(st.id, newDir, newName)
	return 0
}

// Rename moves the file from the name it is known by.
func (n *node) Rename(newDir p9srv.Node, name string) linux.Errno {
	dir, old, e := n.known()
	if e != 0 {
		return e
	}
	defer n.fs.unref(dir)
	from := &node{fs: n.fs, ino: dir}
	return from.Renameat(old, newDir, name, 0)
}

// Remove removes the name that the file is known by.
func (n *node) Remove() linux.Errno {
	dir, name, e := n.known()
	if e != 0 {
		return e
	}
	defer n.fs.unref(dir)
	flags := uint32(0)
	if n.ino.kind.IsDir() {
		flags = linux.AtRemovedir
	}
	from := &node{fs: n.fs, ino: dir}
	return from.Unlinkat(name, flags)
}

// lost says that no name leads to a file any more that the guest found by one,
// and that the guest had no part in it.
func (n *node) lost() bool {
	if n.dir == nil || n.ino.kind.IsDir() {
		return false
	}
	if dir, _, e := n.known(); e == 0 {
		n.fs.unref(dir)
		return false
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return !n.ino.gone
}

// known returns where the file is: where it was walked, or if it has moved
// where the server has seen it last. The directory is referenced.
func (n *node) known() (*inode, string, linux.Errno) {
	if n.dir == nil {
		return nil, "", linux.EBUSY
	}
	var st stat
	if n.fs.statIn(n.ino, n.dir, n.name, &st) == 0 {
		n.fs.ref(n.dir)
		return n.dir, n.name, 0
	}
	dir, name, e := n.fs.where(n.ino)
	if e != 0 {
		return nil, "", linux.ENOENT
	}
	if e := n.fs.statIn(n.ino, dir, name, &st); e != 0 {
		n.fs.unref(dir)
		return nil, "", linux.ENOENT
	}
	return dir, name, 0
}
