// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"fmt"
	"math"
	"path/filepath"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// hostLock is a file's place among the locks of the host, in two layers. Lock
// files of ours, one per space, keep servers apart, whatever the file's mode.
// Locks of the file itself, where it can be opened, meet the host's own
// programs as well. All are owned by open files of their own, so that nothing
// else this process does with the file gives them up.
type hostLock struct {
	// own holds the lock files by space, opened when first needed; path is
	// empty where there are none.
	own [2]lockFile
	// file is open on the file itself, -1 if it cannot be; write says that it
	// takes locks for writing.
	file  int
	write bool
}

var _ p9srv.Lockable = (*file)(nil)

// FileID returns the host's own name for the file.
func (f *file) FileID() p9srv.FileID {
	return p9srv.FileID{Volume: f.ino.id.dev, File: f.ino.id.ino}
}

// HostLock returns the file's place among the host's locks.
func (f *file) HostLock() p9srv.HostLock {
	l := &hostLock{own: [2]lockFile{{fd: -1}, {fd: -1}}, file: -1}
	if dir := f.fs.cfg.LockDir; dir != "" {
		name := fmt.Sprintf("%x-%x", f.ino.id.dev, f.ino.id.ino)
		l.own[p9srv.LockBytes].path = filepath.Join(dir, name+".bytes")
		l.own[p9srv.LockWhole].path = filepath.Join(dir, name+".whole")
	}
	if !f.ino.kind.IsRegular() {
		return l
	}
	h, e := f.fs.acquire(f.ino)
	if e != 0 {
		return l
	}
	defer f.fs.unpin(f.ino)
	fd, err := reopen(h, linux.ORdwr)
	l.write = err == nil
	if err != nil {
		fd, err = reopen(h, linux.ORdonly)
	}
	if err == nil {
		l.file = fd
	}
	return l
}

// Set locks a range in both layers.
func (l *hostLock) Set(space p9srv.LockSpace, write bool, start, end uint64) bool {
	if fd := l.lockFile(space); fd >= 0 && heldByOthers(setRange(fd, rangeType(write), start, end)) {
		return false
	}
	if l.file < 0 || write && !l.write {
		return true
	}
	if space == p9srv.LockWhole {
		return !heldByOthers(setWhole(l.file, write))
	}
	return !heldByOthers(setRange(l.file, rangeType(write), start, end))
}

// heldByOthers says whether err means that a lock is another's. A file system
// without locks is no obstacle.
func heldByOthers(err error) bool { return err == unix.EAGAIN || err == unix.EACCES }

func rangeType(write bool) int16 {
	if write {
		return unix.F_WRLCK
	}
	return unix.F_RDLCK
}

// setWhole is flock(2). A lock that cannot be turned into another kind is
// lost by that: the caller asks for what there was again.
func setWhole(fd int, write bool) error {
	how := unix.LOCK_SH
	if write {
		how = unix.LOCK_EX
	}
	return unix.Flock(fd, how|unix.LOCK_NB)
}

// Clear unlocks a range in both layers.
func (l *hostLock) Clear(space p9srv.LockSpace, start, end uint64) {
	// Giving up a lock cannot fail in a way that matters.
	if l.own[space].fd >= 0 {
		_ = setRange(l.own[space].fd, unix.F_UNLCK, start, end)
	}
	if l.file < 0 {
		return
	}
	if space == p9srv.LockWhole {
		_ = unix.Flock(l.file, unix.LOCK_UN)
	} else {
		_ = setRange(l.file, unix.F_UNLCK, start, end)
	}
}

// Find looks in both layers.
func (l *hostLock) Find(write bool, start, end uint64) (p9.Lock, bool) {
	for _, fd := range [...]int{l.lockFile(p9srv.LockBytes), l.file} {
		if fd < 0 {
			continue
		}
		if k, ok := findRange(fd, write, start, end); ok {
			return k, true
		}
	}
	return p9.Lock{}, false
}

// lockFile opens the lock file of a space, -1 if there is none to be had.
func (l *hostLock) lockFile(space p9srv.LockSpace) int {
	if own := &l.own[space]; own.fd < 0 && own.path != "" {
		*own = openLockFile(own.path)
	}
	return l.own[space].fd
}

// Close gives up everything.
func (l *hostLock) Close() {
	for space := range l.own {
		l.own[space].close()
	}
	if l.file >= 0 {
		closeFD(l.file)
		l.file = -1
	}
}

// lockFile is an open file that has locks and no contents. Whoever has it
// open has its last byte locked for reading, so that who can lock that for
// writing is alone and may remove the file.
type lockFile struct {
	// fd is -1 if it is not open.
	fd   int
	path string
}

// openLockFile opens a lock file, which is made if it is not there; fd is -1
// if it cannot be had.
func openLockFile(path string) lockFile {
	for {
		fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return lockFile{-1, path}
		}
		var st unix.Stat_t
		err = setRange(fd, unix.F_RDLCK, presence, presence)
		if err == nil && unix.Fstat(fd, &st) == nil && st.Nlink > 0 {
			return lockFile{fd, path}
		}
		closeFD(fd)
		if err != nil && !heldByOthers(err) {
			return lockFile{-1, path}
		}
	}
}

// close gives up the locks and removes the file if nobody else has it open.
func (f *lockFile) close() {
	if f.fd < 0 {
		return
	}
	if setRange(f.fd, unix.F_WRLCK, presence, presence) == nil {
		_ = unix.Unlink(f.path)
	}
	closeFD(f.fd)
	f.fd = -1
}

// presence is the byte that stands for having a lock file open. No file has
// one there, so guests' ranges end before it.
const presence = math.MaxInt64

// flockRange is a range as fcntl(2) takes it.
func flockRange(typ int16, start, end uint64) unix.Flock_t {
	if start < presence {
		end = min(end, presence-1)
	}
	k := unix.Flock_t{Type: typ, Start: int64(start)}
	if end < presence {
		k.Len = int64(end - start + 1)
	}
	return k
}

// setRange locks or unlocks a range for the open file fd.
func setRange(fd int, typ int16, start, end uint64) error {
	k := flockRange(typ, start, end)
	return retry(func() error { return unix.FcntlFlock(uintptr(fd), setOFD, &k) })
}

// findRange tells of a range in the way. Its owner has no number that would
// mean anything in a guest.
func findRange(fd int, write bool, start, end uint64) (p9.Lock, bool) {
	k := flockRange(rangeType(write), start, end)
	if unix.FcntlFlock(uintptr(fd), getOFD, &k) != nil || k.Type == unix.F_UNLCK {
		return p9.Lock{}, false
	}
	found := p9.Lock{Type: p9.LockRead, Start: uint64(k.Start), Length: uint64(k.Len), ClientID: "host"}
	if k.Type == unix.F_WRLCK {
		found.Type = p9.LockWrite
	}
	return found, true
}
