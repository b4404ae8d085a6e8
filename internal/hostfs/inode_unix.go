// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"context"
	"sync"

	"byre.dev/byre/internal/linux"
)

// fileID tells a file from every other that is, and by its time of birth from
// most that were.
type fileID struct {
	dev, ino uint64
	birth    int64
}

// inode is a file that the guest knows. Its fields are guarded by FS.mu, but
// for id and kind, which do not change.
type inode struct {
	id   fileID
	kind linux.Mode
	// refs counts nodes, open files and children.
	refs int32
	// opens counts open files, pins calls that use fd just now.
	opens, pins int32
	// fd is the handle, -1 if there is none.
	fd int32
	// gone says that no name leads here any more.
	gone bool
	// kept says that the handle is one of FS.orphans.
	kept bool
	// dir and name are where the file was last seen. The root has no dir.
	dir  *inode
	name string
	// prev and next link handles that may be closed, by time of use.
	prev, next *inode
}

// tree is the state of an FS on Unix hosts.
type tree struct {
	root *inode
	side sidecar
	// uses tells other exports what is open for writing here.
	uses uses
	// file is the name of the one file that is exported, empty if the
	// directory is.
	file  string
	limit int
	// metaMu keeps changes of stored metadata apart: each reads what there is
	// first.
	metaMu sync.Mutex
	// endSweep ends the sweep of the sidecar, sweeps waits for it.
	endSweep context.CancelFunc
	sweeps   sync.WaitGroup

	mu sync.Mutex
	// inodes, lru, handles, orphans and closed are guarded by mu.
	inodes map[fileID]*inode
	// lru is the ring of handles that may be closed, the oldest first.
	lru inode
	// handles counts open handles, orphans those of files without a name,
	// which stay open although nobody has the file open.
	handles, orphans int
	closed           bool
}

// intern returns the referenced inode for what was found as name in dir.
func (fs *FS) intern(st *stat, dir *inode, name string) *inode {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := fs.inodes[st.id]
	if i == nil {
		i = &inode{id: st.id, kind: st.mode.Type(), fd: -1}
		fs.inodes[st.id] = i
	}
	i.refs++
	fs.moveLocked(i, dir, name)
	return i
}

// moveLocked notes where i is to be found. What the host renames can make
// that contradict what was seen before; what was seen before then stays.
func (fs *FS) moveLocked(i, dir *inode, name string) {
	if i == fs.root || i.dir == dir && i.name == name && !i.gone {
		return
	}
	if i.kind.IsDir() && i.dir != dir {
		for up := dir; up != nil; up = up.dir {
			if up == i {
				return
			}
		}
	}
	old := i.dir
	dir.refs++
	i.dir, i.name, i.gone = dir, name, false
	fs.unrefLocked(old)
}

func (fs *FS) ref(i *inode) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i.refs++
}

func (fs *FS) unref(i *inode) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.unrefLocked(i)
}

// unrefLocked gives up a reference and forgets inodes that have none left.
func (fs *FS) unrefLocked(i *inode) {
	for i != nil {
		i.refs--
		if i.refs > 0 {
			return
		}
		if fs.inodes[i.id] == i {
			delete(fs.inodes, i.id)
		}
		fs.dropHandleLocked(i)
		i, i.dir = i.dir, nil
	}
}

// live returns the inode of a file if the guest knows it, referenced.
func (fs *FS) live(id fileID) *inode {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := fs.inodes[id]
	if i != nil {
		i.refs++
	}
	return i
}

// where returns the directory and name that i was last seen under, the
// directory referenced.
func (fs *FS) where(i *inode) (*inode, string, linux.Errno) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if i.dir == nil || i.gone {
		return nil, "", linux.ESTALE
	}
	i.dir.refs++
	return i.dir, i.name, 0
}

// moved says whether i is to be found elsewhere than under dir and name.
func (fs *FS) moved(i, dir *inode, name string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return i.dir != dir || i.name != name || i.fd >= 0
}
