// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
)

// acquire returns i's handle, which stays open until unpin. It opens one if
// there is none.
func (fs *FS) acquire(i *inode) (int, linux.Errno) { return fs.reach(i, 0) }

// reach is acquire, depth levels below where it began.
func (fs *FS) reach(i *inode, depth int) (int, linux.Errno) {
	for {
		if fd, ok := fs.pin(i); ok {
			return fd, 0
		}
		dir, name, e := fs.where(i)
		if e != 0 {
			return -1, e
		}
		fd, e := fs.openIn(i, dir, name, depth+1)
		again := e == linux.ESTALE && fs.moved(i, dir, name)
		fs.unref(dir)
		switch {
		case e == 0:
			return fs.adopt(i, fd), 0
		case !again:
			return -1, e
		}
	}
}

// maxDepth bounds how many directories without a handle are opened anew on
// the way to one file.
const maxDepth = 10000

// openIn opens name in dir and checks that it is i.
func (fs *FS) openIn(i, dir *inode, name string, depth int) (int, linux.Errno) {
	if depth > maxDepth {
		return -1, linux.ENAMETOOLONG
	}
	dfd, e := fs.reach(dir, depth)
	if e != 0 {
		return -1, e
	}
	defer fs.unpin(dir)
	fd, err := openHandle(dfd, name)
	if err != nil {
		return -1, stale(fs.errno(err))
	}
	var st stat
	if err := statAt(fd, "", &st); err != nil {
		closeFD(fd)
		return -1, fs.errno(err)
	}
	if st.id != i.id {
		closeFD(fd)
		return -1, linux.ESTALE
	}
	return fd, 0
}

// stale is what it means that a known file is not where it was.
func stale(e linux.Errno) linux.Errno {
	if e == linux.ENOENT || e == linux.ENOTDIR || e == linux.ELOOP {
		return linux.ESTALE
	}
	return e
}

// pin keeps i's handle open, if there is one.
func (fs *FS) pin(i *inode) (int, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if i.fd < 0 {
		return -1, false
	}
	fs.pinLocked(i)
	return int(i.fd), true
}

func (fs *FS) pinLocked(i *inode) {
	i.pins++
	i.refs++
	fs.unlistLocked(i)
}

// unpin ends what acquire, pin or adopt began.
func (fs *FS) unpin(i *inode) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i.pins--
	fs.settleLocked(i)
	fs.unrefLocked(i)
}

// adopt makes fd i's handle and pins it; if another came first, fd is closed.
func (fs *FS) adopt(i *inode, fd int) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if i.fd >= 0 {
		closeFD(fd)
	} else {
		i.fd = int32(fd)
		fs.handles++
	}
	fs.pinLocked(i)
	return int(i.fd)
}

// settleLocked lists i's handle as one that may be closed, if it may, and
// closes the oldest beyond the limit. The handle of a file without a name is
// the only way to it and is kept, up to the same limit.
func (fs *FS) settleLocked(i *inode) {
	if i.fd < 0 || i.pins > 0 || i.opens > 0 || i == fs.root {
		return
	}
	if i.gone && (i.kept || fs.orphans < fs.limit) {
		fs.keepLocked(i, true)
		return
	}
	fs.keepLocked(i, false)
	fs.unlistLocked(i)
	i.prev, i.next = fs.lru.prev, &fs.lru
	i.prev.next, i.next.prev = i, i
	for fs.handles > fs.limit && fs.lru.next != &fs.lru {
		fs.dropHandleLocked(fs.lru.next)
	}
}

func (fs *FS) unlistLocked(i *inode) {
	if i.next == nil {
		return
	}
	i.prev.next, i.next.prev = i.next, i.prev
	i.prev, i.next = nil, nil
}

// keepLocked notes whether i is one of the orphans.
func (fs *FS) keepLocked(i *inode, keep bool) {
	switch {
	case keep && !i.kept:
		fs.orphans++
	case !keep && i.kept:
		fs.orphans--
	}
	i.kept = keep
}

// dropHandleLocked closes i's handle.
func (fs *FS) dropHandleLocked(i *inode) {
	fs.unlistLocked(i)
	fs.keepLocked(i, false)
	if i.fd >= 0 {
		closeFD(int(i.fd))
		i.fd = -1
		fs.handles--
	}
}
