// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/hostlock"
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
	own [2]struct {
		path string
		file *hostlock.File
	}
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
	l := &hostLock{file: -1}
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
	if own := l.lockFile(space); own != nil && heldByOthers(own.Set(write, start, end)) {
		return false
	}
	if l.file < 0 || write && !l.write {
		return true
	}
	if space == p9srv.LockWhole {
		return !heldByOthers(setWhole(l.file, write))
	}
	return !heldByOthers(hostlock.Set(uintptr(l.file), write, start, end))
}

// heldByOthers says whether err means that a lock is another's. A file system
// without locks is no obstacle.
func heldByOthers(err error) bool {
	return errors.Is(err, hostlock.ErrHeld) || errors.Is(err, unix.EAGAIN)
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
	if own := l.own[space].file; own != nil {
		_ = own.Clear(start, end)
	}
	if l.file < 0 {
		return
	}
	if space == p9srv.LockWhole {
		_ = unix.Flock(l.file, unix.LOCK_UN)
	} else {
		_ = hostlock.Clear(uintptr(l.file), start, end)
	}
}

// Find looks in both layers. The owner of what it finds has no number that
// would mean anything in a guest.
func (l *hostLock) Find(write bool, start, end uint64) (p9.Lock, bool) {
	var r hostlock.Range
	var ok bool
	if own := l.lockFile(p9srv.LockBytes); own != nil {
		r, ok = own.Find(write, start, end)
	}
	if !ok && l.file >= 0 {
		r, ok = hostlock.Find(uintptr(l.file), write, start, end)
	}
	if !ok {
		return p9.Lock{}, false
	}
	found := p9.Lock{Type: p9.LockRead, Start: r.Start, ClientID: "host"}
	if r.End < math.MaxUint64 {
		found.Length = r.End - r.Start + 1
	}
	if r.Write {
		found.Type = p9.LockWrite
	}
	return found, true
}

// lockFile opens the lock file of a space, nil if there is none to be had.
func (l *hostLock) lockFile(space p9srv.LockSpace) *hostlock.File {
	own := &l.own[space]
	if own.file == nil && own.path != "" {
		var err error
		if own.file, err = hostlock.Open(own.path); err != nil {
			own.path = ""
		}
	}
	return own.file
}

// Close gives up everything.
func (l *hostLock) Close() {
	for space := range l.own {
		if own := l.own[space].file; own != nil {
			_ = own.Close() // the locks are given up even so
		}
	}
	if l.file >= 0 {
		closeFD(l.file)
		l.file = -1
	}
}
