// SPDX-License-Identifier: Apache-2.0

// Package memfs is a tree of files in memory with the semantics of a local
// Linux file system: the model that hostfs is compared with, and a double for
// tests of what serves trees. It keeps to the letter what POSIX and Linux say
// and is fast at nothing.
//
// One lock guards everything.
package memfs

import (
	"slices"
	"sync"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// FS is a file system. The zero value is not usable; call New.
type FS struct {
	mu    sync.Mutex
	ino   uint64
	root  *inode
	clock func() time.Time
}

// New returns a file system that holds an empty directory, owned by root,
// with mode 0755.
func New() *FS {
	fs := &FS{clock: time.Now}
	fs.root = fs.newInode(linux.TypeDir|0o755, p9srv.Owner{})
	fs.root.parent = fs.root
	fs.root.nlink = 2
	return fs
}

// Root returns the root. Releasing it is not needed.
func (fs *FS) Root() p9srv.Node { return &node{fs: fs, ino: fs.root} }

// inode is a file. All fields are guarded by FS.mu.
type inode struct {
	num      uint64
	mode     linux.Mode
	uid, gid uint32
	nlink    uint64
	// linkable says that a file has had no name yet.
	linkable     bool
	major, minor uint32
	data         []byte
	target       string
	xattr        map[string][]byte
	// entries are in the order of their cookies, of which the next is next;
	// names finds them.
	entries []entry
	names   map[string]*inode
	next    uint64
	// parent is a directory's own; name is the last entry that led here, in.
	parent, in                 *inode
	name                       string
	atime, mtime, ctime, btime time.Time
}

type entry struct {
	cookie uint64
	name   string
	ino    *inode
}

func (fs *FS) newInode(mode linux.Mode, o p9srv.Owner) *inode {
	fs.ino++
	now := fs.clock()
	return &inode{
		num: fs.ino, mode: mode, uid: o.UID, gid: o.GID, nlink: 1, next: 3,
		atime: now, mtime: now, ctime: now, btime: now,
	}
}

func (i *inode) qid() p9.QID {
	return p9.QID{Type: p9.QIDType(i.mode), Version: 1, Path: i.num}
}

// enter adds a name.
func (i *inode) enter(name string, child *inode, now time.Time) {
	if i.names == nil {
		i.names = make(map[string]*inode)
	}
	i.names[name] = child
	i.entries = append(i.entries, entry{i.next, name, child})
	i.next++
	child.in, child.name = i, name
	if child.mode.IsDir() {
		child.parent = i
		i.nlink++
	}
	i.mtime, i.ctime, child.ctime = now, now, now
}

// leave takes a name away, without counting links of what it led to.
func (i *inode) leave(name string, now time.Time) {
	child := i.names[name]
	delete(i.names, name)
	k := slices.IndexFunc(i.entries, func(e entry) bool { return e.name == name })
	i.entries = slices.Delete(i.entries, k, k+1)
	if child.mode.IsDir() {
		i.nlink--
	}
	i.mtime, i.ctime, child.ctime = now, now, now
}

// dead says whether a directory was removed.
func (i *inode) dead() bool { return i.mode.IsDir() && i.nlink == 0 }

func (i *inode) size() uint64 {
	switch {
	case i.mode.IsSymlink():
		return uint64(len(i.target))
	case i.mode.IsDir():
		return uint64(len(i.entries))
	}
	return uint64(len(i.data))
}

func (i *inode) attr(a *p9.Attr) {
	*a = p9.Attr{
		Valid: p9.AttrAll, QID: i.qid(), Mode: i.mode, UID: i.uid, GID: i.gid,
		Nlink: i.nlink, Size: i.size(), BlockSize: 4096, Blocks: (i.size() + 511) / 512,
		Rdev:  uint64(i.minor&0xff | i.major<<8 | i.minor&^0xff<<12),
		Atime: moment(i.atime), Mtime: moment(i.mtime), Ctime: moment(i.ctime), Btime: moment(i.btime),
		Gen: 1, DataVersion: uint64(i.ctime.UnixNano()),
	}
}

func moment(t time.Time) p9.Time {
	return p9.Time{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
