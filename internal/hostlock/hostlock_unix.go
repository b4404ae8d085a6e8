// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostlock

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// File is a lock file that is open. Its locks are an open file's, and conflict
// with those of any other File, of whichever process.
type File struct {
	f *os.File
}

// Open opens the lock file at path, which is made if it is not there.
func Open(path string) (*File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open lock file: %w", err)
		}
		var st unix.Stat_t
		err = set(f.Fd(), unix.F_RDLCK, presence, presence)
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err == nil && st.Nlink > 0 {
			return &File{f}, nil
		}
		// Whoever is removing it is done in a moment.
		if err != nil && !errors.Is(err, ErrHeld) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// Set locks a range.
func (l *File) Set(write bool, start, end uint64) error { return Set(l.f.Fd(), write, start, end) }

// Clear unlocks a range.
func (l *File) Clear(start, end uint64) error { return Clear(l.f.Fd(), start, end) }

// Find tells of a lock in the way.
func (l *File) Find(write bool, start, end uint64) (Range, bool) {
	return Find(l.f.Fd(), write, start, end)
}

// Close gives up everything.
func (l *File) Close() error {
	var err error
	if set(l.f.Fd(), unix.F_WRLCK, presence, presence) == nil {
		if err = os.Remove(l.f.Name()); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, l.f.Close())
}

// Set is File's, for a file of any kind that is open, for writing if write.
func Set(fd uintptr, write bool, start, end uint64) error {
	start, end = within(start, end)
	return set(fd, kind(write), start, end)
}

// Clear is File's.
func Clear(fd uintptr, start, end uint64) error {
	start, end = within(start, end)
	return set(fd, unix.F_UNLCK, start, end)
}

// Find is File's. The end of what reaches to the end of the file is the greatest
// number.
func Find(fd uintptr, write bool, start, end uint64) (Range, bool) {
	start, end = within(start, end)
	k := flock(kind(write), start, end)
	if unix.FcntlFlock(fd, getOFD, &k) != nil || k.Type == unix.F_UNLCK {
		return Range{}, false
	}
	r := Range{Write: k.Type == unix.F_WRLCK, Start: uint64(k.Start), End: math.MaxUint64}
	if k.Len > 0 && k.Start+k.Len-1 < last {
		r.End = uint64(k.Start + k.Len - 1)
	}
	return r, true
}

func kind(write bool) int16 {
	if write {
		return unix.F_WRLCK
	}
	return unix.F_RDLCK
}

func flock(kind int16, start, end uint64) unix.Flock_t {
	k := unix.Flock_t{Type: kind, Start: int64(start)}
	if end < presence { // a length of 0 is all that follows
		k.Len = int64(end - start + 1)
	}
	return k
}

func set(fd uintptr, kind int16, start, end uint64) error {
	k := flock(kind, start, end)
	for {
		switch err := unix.FcntlFlock(fd, setOFD, &k); err {
		case unix.EINTR:
		case unix.EAGAIN, unix.EACCES:
			return ErrHeld
		default:
			return err
		}
	}
}
