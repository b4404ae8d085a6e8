// SPDX-License-Identifier: Apache-2.0

package memfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

type file struct {
	fs    *FS
	ino   *inode
	flags linux.OpenFlags
}

var _ p9srv.File = (*file)(nil)

// Open opens the file.
func (n *node) Open(flags linux.OpenFlags) (p9srv.File, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	f, e := n.openLocked(flags)
	if e != 0 {
		return nil, e
	}
	return f, 0
}

func (n *node) openLocked(flags linux.OpenFlags) (*file, linux.Errno) {
	if n.ino.mode.IsSpecial() {
		return nil, linux.ENXIO
	}
	if flags&linux.OTrunc != 0 {
		if e := n.ino.truncate(0, n.fs.clock()); e != 0 {
			return nil, e
		}
	}
	return &file{n.fs, n.ino, flags}, 0
}

// Read reads at off.
func (f *file) Read(p []byte, off int64) (int, linux.Errno) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.ino.mode.IsDir() {
		return 0, linux.EISDIR
	}
	if off >= int64(len(f.ino.data)) {
		return 0, 0
	}
	f.ino.atime = f.fs.clock()
	return copy(p, f.ino.data[off:]), 0
}

// Write writes at off, or at the end.
func (f *file) Write(p []byte, off int64) (int, linux.Errno) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	i := f.ino
	if f.flags&linux.OAppend != 0 {
		off = int64(len(i.data))
	}
	end := uint64(off) + uint64(len(p))
	if end > uint64(len(i.data)) {
		if e := i.truncate(end, f.fs.clock()); e != 0 {
			return 0, e
		}
	}
	i.mtime = f.fs.clock()
	i.ctime = i.mtime
	return copy(i.data[off:], p), 0
}

// Allocate makes the file as large as fallocate(2) does, and zeros of a range.
func (f *file) Allocate(mode uint32, off, n int64) linux.Errno {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	i := f.ino
	if i.mode.IsDir() {
		return linux.ENODEV
	}
	zero := mode&(linux.FallocPunchHole|linux.FallocZeroRange) != 0
	if mode&linux.FallocPunchHole != 0 && mode != linux.FallocPunchHole|linux.FallocKeepSize {
		return linux.EOPNOTSUPP
	}
	if end := uint64(off) + uint64(n); mode&linux.FallocKeepSize == 0 && end > uint64(len(i.data)) {
		if e := i.truncate(end, f.fs.clock()); e != 0 {
			return e
		}
	}
	if size := int64(len(i.data)); zero && off < size {
		clear(i.data[off:min(off+n, size)])
	}
	i.mtime = f.fs.clock()
	i.ctime = i.mtime
	return 0
}

// Readdir lists in order of creation; cookies are never used twice.
func (f *file) Readdir(off uint64, emit func(*p9.Dirent) bool) linux.Errno {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	i := f.ino
	if !i.mode.IsDir() {
		return linux.ENOTDIR
	}
	list := append([]entry{{1, ".", i}, {2, "..", i.parent}}, i.entries...)
	if i.dead() {
		return 0
	}
	for _, e := range list {
		if e.cookie <= off {
			continue
		}
		d := p9.Dirent{QID: e.ino.qid(), Offset: e.cookie, Type: e.ino.mode.DirentType(), Name: e.name}
		if !emit(&d) {
			break
		}
	}
	return 0
}

// Fsync succeeds.
func (f *file) Fsync(bool) linux.Errno { return 0 }

// Close succeeds.
func (f *file) Close() linux.Errno { return 0 }
