// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// fileRoot is the root of a file's export: a directory that holds the one
// file and cannot be changed.
type fileRoot struct {
	p9srv.Unimplemented
	dir *node
}

// single is the file of a file's export. It is its name in the host's
// directory, not what was found there first: a file that the host puts in its
// place by rename is seen by the next request.
type single struct {
	p9srv.Unimplemented
	dir *node
}

var (
	_ p9srv.Node = (*fileRoot)(nil)
	_ p9srv.Node = (*single)(nil)
)

// QID returns a QID of its own: the host's directory is not shown.
func (r *fileRoot) QID() p9.QID {
	q := r.dir.QID()
	q.Path ^= 1 << 62
	return q
}

// FileID returns what no other file has.
func (r *fileRoot) FileID() p9srv.FileID {
	id := r.dir.FileID()
	id.File ^= 1 << 62
	return id
}

// Clone returns another reference.
func (r *fileRoot) Clone() p9srv.Node { return &fileRoot{dir: r.dir.Clone().(*node)} }

// Release gives up the reference.
func (r *fileRoot) Release() { r.dir.Release() }

// Walk finds the one file.
func (r *fileRoot) Walk(name string) (p9srv.Node, linux.Errno) {
	if name != r.dir.fs.file {
		return nil, linux.ENOENT
	}
	c, e := r.dir.walk(name)
	if e != 0 {
		return nil, e
	}
	c.Release()
	return &single{dir: r.dir.Clone().(*node)}, 0
}

// Getattr shows a directory of its own, which nobody can write to.
func (r *fileRoot) Getattr(mask uint64, a *p9.Attr) linux.Errno {
	if e := r.dir.Getattr(mask, a); e != 0 {
		return e
	}
	a.QID = r.QID()
	a.Mode = linux.TypeDir | 0o555
	a.UID, a.GID, a.Nlink, a.Size = 0, 0, 2, 0
	return 0
}

// Statfs tells of the file system that the file is on.
func (r *fileRoot) Statfs(s *p9.Statfs) linux.Errno { return r.dir.Statfs(s) }

// Open opens the directory for listing.
func (r *fileRoot) Open(linux.OpenFlags) (p9srv.File, linux.Errno) {
	return &fileList{root: &fileRoot{dir: r.dir.Clone().(*node)}}, 0
}

// Create answers EROFS, as every change of the directory does.
func (r *fileRoot) Create(name string, flags linux.OpenFlags, _ linux.Mode, _ p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	if name != r.dir.fs.file || flags&linux.OExcl != 0 {
		return nil, nil, linux.EROFS
	}
	c, f, e := r.dir.openExisting(name, flags, linux.EROFS)
	if e != 0 {
		return nil, nil, e
	}
	return c, f, 0
}

// Setattr answers EROFS.
func (r *fileRoot) Setattr(*p9.SetAttr, p9srv.File) linux.Errno { return linux.EROFS }

// Mkdir answers EROFS.
func (r *fileRoot) Mkdir(string, linux.Mode, p9srv.Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EROFS
}

// Symlink answers EROFS.
func (r *fileRoot) Symlink(string, string, p9srv.Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EROFS
}

// Mknod answers EROFS.
func (r *fileRoot) Mknod(string, linux.Mode, uint32, uint32, p9srv.Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EROFS
}

// Link answers EROFS.
func (r *fileRoot) Link(p9srv.Node, string) linux.Errno { return linux.EROFS }

// Renameat answers EBUSY: the file is a mount.
func (r *fileRoot) Renameat(string, p9srv.Node, string, uint32) linux.Errno { return linux.EBUSY }

// Tmpfile answers EROFS.
func (r *fileRoot) Tmpfile(linux.OpenFlags, linux.Mode, p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	return nil, nil, linux.EROFS
}

// Unlinkat answers EBUSY: the file is a mount.
func (r *fileRoot) Unlinkat(string, uint32) linux.Errno { return linux.EBUSY }

// now returns the file that has the name at present. The caller releases it.
func (s *single) now() (*node, linux.Errno) { return s.dir.walk(s.dir.fs.file) }

// QID returns the QID of the file that has the name now.
func (s *single) QID() p9.QID {
	n, e := s.now()
	if e != 0 {
		return p9.QID{Version: 1}
	}
	defer n.Release()
	return n.QID()
}

// FileID returns the host's own name for the file.
func (s *single) FileID() p9srv.FileID {
	n, e := s.now()
	if e != 0 {
		return p9srv.FileID{}
	}
	defer n.Release()
	return n.FileID()
}

// Clone returns another reference.
func (s *single) Clone() p9srv.Node { return &single{dir: s.dir.Clone().(*node)} }

// Release gives up the reference.
func (s *single) Release() { s.dir.Release() }

// Walk answers ENOTDIR.
func (s *single) Walk(string) (p9srv.Node, linux.Errno) { return nil, linux.ENOTDIR }

// with calls f with the file that has the name now.
func (s *single) with(f func(*node) linux.Errno) linux.Errno {
	n, e := s.now()
	if e != 0 {
		return e
	}
	defer n.Release()
	return f(n)
}

// Getattr tells of the file.
func (s *single) Getattr(mask uint64, a *p9.Attr) linux.Errno {
	return s.with(func(n *node) linux.Errno { return n.Getattr(mask, a) })
}

// Setattr changes the file that is open, or else the one that has the name.
func (s *single) Setattr(a *p9.SetAttr, open p9srv.File) linux.Errno {
	if f, ok := open.(*file); ok {
		return (&node{fs: f.fs, ino: f.ino, mode: f.ino.kind}).Setattr(a, open)
	}
	return s.with(func(n *node) linux.Errno { return n.Setattr(a, nil) })
}

// Statfs tells of the file system that the file is on.
func (s *single) Statfs(st *p9.Statfs) linux.Errno { return s.dir.Statfs(st) }

// Open opens the file.
func (s *single) Open(flags linux.OpenFlags) (file p9srv.File, e linux.Errno) {
	e = s.with(func(n *node) linux.Errno { file, e = n.Open(flags); return e })
	return file, e
}

// Getxattr returns an attribute's value.
func (s *single) Getxattr(name string) (v []byte, e linux.Errno) {
	e = s.with(func(n *node) linux.Errno { v, e = n.Getxattr(name); return e })
	return v, e
}

// Listxattr returns the attributes' names.
func (s *single) Listxattr() (v []byte, e linux.Errno) {
	e = s.with(func(n *node) linux.Errno { v, e = n.Listxattr(); return e })
	return v, e
}

// Setxattr sets an attribute.
func (s *single) Setxattr(name string, value []byte, flags uint32) linux.Errno {
	return s.with(func(n *node) linux.Errno { return n.Setxattr(name, value, flags) })
}

// Removexattr removes an attribute.
func (s *single) Removexattr(name string) linux.Errno {
	return s.with(func(n *node) linux.Errno { return n.Removexattr(name) })
}

// Remove answers EBUSY: the file is a mount.
func (s *single) Remove() linux.Errno { return linux.EBUSY }

// Rename answers EBUSY: the file is a mount.
func (s *single) Rename(p9srv.Node, string) linux.Errno { return linux.EBUSY }

// fileList lists a fileRoot.
type fileList struct {
	p9srv.UnimplementedFile
	root *fileRoot
}

// Readdir lists the directory itself twice and the one file.
func (l *fileList) Readdir(off uint64, emit func(*p9.Dirent) bool) linux.Errno {
	self := l.root.QID()
	list := []p9.Dirent{
		{QID: self, Type: linux.DTDir, Name: "."},
		{QID: self, Type: linux.DTDir, Name: ".."},
	}
	if c, e := l.root.dir.walk(l.root.dir.fs.file); e == 0 {
		list = append(list, p9.Dirent{QID: c.QID(), Type: c.mode.DirentType(), Name: c.name})
		c.Release()
	}
	for i := off; i < uint64(len(list)); i++ {
		list[i].Offset = i + 1
		if !emit(&list[i]) {
			break
		}
	}
	return 0
}

// Close releases the directory.
func (l *fileList) Close() linux.Errno {
	l.root.Release()
	return 0
}
