// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"sync"
	"sync/atomic"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// file is an open file. Its inode keeps a handle while it is open, so that
// requests on the inode work whatever becomes of the name.
type file struct {
	fs    *FS
	ino   *inode
	fd    int
	flags linux.OpenFlags

	// uncached says that another export had the file open for writing when
	// this was opened.
	uncached bool
	// waits says that the file system cannot tell whether a read would wait.
	waits atomic.Bool
	// copies says that contents cannot be streamed.
	copies atomic.Bool

	mu sync.Mutex
	// dir and mapped are guarded by mu.
	dir    dirReader
	mapped bool
}

var (
	_ p9srv.File         = (*file)(nil)
	_ p9srv.NowaitReader = (*file)(nil)
	_ p9srv.Shared       = (*file)(nil)
	_ p9srv.Mappable     = (*file)(nil)
)

// newFile makes fd, which is open on i, a file of the tree.
func (fs *FS) newFile(i *inode, fd int, flags linux.OpenFlags) *file {
	uncached := fs.uses.enter(fs.cfg.LockDir, i, flags)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i.opens++
	i.refs++
	fs.unlistLocked(i)
	return &file{fs: fs, ino: i, fd: fd, flags: flags, uncached: uncached}
}

// WrittenElsewhere says whether another export had the file open for writing
// when this was opened.
func (f *file) WrittenElsewhere() bool { return f.uncached }

// mayChange is ETXTBSY for a file that another export's client has mapped for
// writing.
func (fs *FS) mayChange(i *inode) linux.Errno { return fs.uses.mayChange(fs.cfg.LockDir, i) }

// Mapped notes that the client has mapped the file for writing.
func (f *file) Mapped() linux.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mapped || !f.ino.kind.IsRegular() {
		return 0
	}
	e := f.fs.uses.enterMapped(f.fs.cfg.LockDir, f.ino)
	f.mapped = e == 0
	return e
}

// Open opens the file through its handle, so that it is this file and none
// that took its name, and only if it is one whose opening has no effects. A file
// whose name others took away or gave to another is ESTALE: nobody finds it by
// name any more, and who holds a lock relies on that.
func (n *node) Open(flags linux.OpenFlags) (p9srv.File, linux.Errno) {
	f, e := n.open(flags)
	if e != 0 {
		return nil, e
	}
	return f, 0
}

func (n *node) open(flags linux.OpenFlags) (*file, linux.Errno) {
	if flags.Writes() {
		if e := n.fs.writable(); e != 0 {
			return nil, e
		}
	}
	if !n.mode.IsRegular() && !n.mode.IsDir() {
		return nil, linux.ENXIO
	}
	h, e := n.fs.acquire(n.ino)
	if e != 0 {
		return nil, e
	}
	defer n.fs.unpin(n.ino)
	if n.lost() {
		return nil, linux.ESTALE
	}
	if flags&linux.OTrunc != 0 {
		if e := n.fs.mayChange(n.ino); e != 0 {
			return nil, e
		}
	}
	fd, err := reopen(h, flags)
	if n.fs.cfg.Mapped && n.fs.errno(err) == linux.EACCES && n.fs.unlock(h) == 0 {
		fd, err = reopen(h, flags)
	}
	if err != nil {
		return nil, n.fs.errno(err)
	}
	return n.fs.newFile(n.ino, fd, flags), 0
}

// Read reads at off until p is full or the file ends.
func (f *file) Read(p []byte, off int64) (int, linux.Errno) {
	done := 0
	for done < len(p) {
		n, err := pread(f.fd, p[done:], off+int64(done))
		if err != nil {
			if done > 0 {
				break
			}
			return 0, f.fs.errno(err)
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, 0
}

// ReadNowait reads what is in the page cache.
func (f *file) ReadNowait(p []byte, off int64) (int, bool) {
	if f.waits.Load() || !f.ino.kind.IsRegular() {
		return 0, false
	}
	done := 0
	for done < len(p) {
		n, err := preadNowait(f.fd, p[done:], off+int64(done))
		if err != nil {
			if f.fs.errno(err) == linux.EOPNOTSUPP {
				f.waits.Store(true)
			}
			return 0, false
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, true
}

// Write writes all of p, or as much as there is room for.
func (f *file) Write(p []byte, off int64) (int, linux.Errno) {
	if e := f.fs.mayChange(f.ino); e != 0 {
		return 0, e
	}
	done := 0
	for done < len(p) {
		n, err := pwrite(f.fd, p[done:], off+int64(done))
		if err != nil {
			if done > 0 {
				break
			}
			return 0, f.fs.errno(err)
		}
		done += n
	}
	return done, 0
}

// Allocate reserves room for a range, or makes a hole or zeros of it, where the
// host's file system can.
func (f *file) Allocate(mode uint32, off, n int64) linux.Errno {
	if e := f.fs.mayChange(f.ino); e != 0 {
		return e
	}
	return f.fs.errno(allocate(f.fd, mode, off, n))
}

// Readdir lists the directory with the host's own cookies.
func (f *file) Readdir(off uint64, emit func(*p9.Dirent) bool) linux.Errno {
	if !f.ino.kind.IsDir() {
		return linux.ENOTDIR
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.dir.seek(f.fd, off); err != nil {
		return f.fs.errno(err)
	}
	var e dirEntry
	for {
		ok, err := f.dir.peek(f.fd, &e)
		if err != nil {
			return f.fs.errno(err)
		}
		if !ok || !emit(f.dirent(&e)) {
			return 0
		}
		f.dir.take()
	}
}

// dirent turns what the host lists into what the guest sees. The root's
// parent is the root: its own number stays the host's secret.
func (f *file) dirent(e *dirEntry) *p9.Dirent {
	mode := linux.ModeOfDirent(e.typ)
	d := &p9.Dirent{Offset: e.next, Type: e.typ, Name: e.name}
	d.QID = p9.QID{Type: p9.QIDType(mode), Version: 1, Path: f.fs.qidPath(f.ino.id.dev, e.ino)}
	if e.name == ".." && f.ino == f.fs.root {
		d.QID.Path = f.fs.qidPath(f.ino.id.dev, f.ino.id.ino)
	}
	if f.fs.cfg.Mapped && mode.IsRegular() {
		d.Type = f.fs.mappedType(f.fd, e.name)
	}
	return d
}

// Fsync makes the file durable.
func (f *file) Fsync(datasync bool) linux.Errno {
	if err := fsync(f.fd, datasync && !f.ino.kind.IsDir()); err != nil {
		return f.fs.errno(err)
	}
	return f.fs.errno(f.fs.side.sync())
}

// Close closes the file.
func (f *file) Close() linux.Errno {
	err := closeFD(f.fd)
	f.fs.uses.leave(f.ino, f.flags)
	if f.mapped {
		f.fs.uses.leaveMapped(f.ino)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.ino.opens--
	f.fs.settleLocked(f.ino)
	f.fs.unrefLocked(f.ino)
	return f.fs.errno(err)
}
