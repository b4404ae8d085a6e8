// SPDX-License-Identifier: Apache-2.0

package hostlock

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/windows"
)

// File is a lock file that is open. Its locks are a handle's, and conflict with
// those of any other File, of whichever process.
//
// Windows gives up locks only as they were taken, and takes none for writing
// where the handle has one already. A change of a range is thus several steps,
// between which no other File changes anything: all lock the gate first.
type File struct {
	h    windows.Handle
	path string
	// held are the ranges that are locked, none of which overlap.
	held []Range
}

// Open opens the lock file at path, which is made if it is not there.
func Open(path string) (*File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("open lock file %s: %w", path, err)
	}
	for {
		h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE|windows.DELETE,
			windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
			nil, windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
		if errors.Is(err, windows.ERROR_DELETE_PENDING) {
			continue // whoever is removing it is done in a moment
		}
		if err != nil {
			return nil, fmt.Errorf("open lock file %s: %w", path, err)
		}
		l := &File{h: h, path: path}
		var info windows.ByHandleFileInformation
		err = l.lock(Range{Start: presence, End: presence}, false)
		if err == nil {
			err = windows.GetFileInformationByHandle(h, &info)
		}
		if err == nil && info.NumberOfLinks > 0 {
			return l, nil
		}
		if err != nil && !errors.Is(err, ErrHeld) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), windows.CloseHandle(h))
		}
		if err := windows.CloseHandle(h); err != nil {
			return nil, err
		}
	}
}

// Set locks a range.
func (l *File) Set(write bool, start, end uint64) error {
	start, end = within(start, end)
	return l.change(start, end, func([]Range) error { return l.take(Range{write, start, end}) })
}

// Clear unlocks a range.
func (l *File) Clear(start, end uint64) error {
	start, end = within(start, end)
	return l.change(start, end, func([]Range) error { return nil })
}

// Find tells of a lock in the way. Windows tells only whether there is one: its
// beginning is found by halving, and its end is taken for the end of what was
// asked for.
func (l *File) Find(write bool, start, end uint64) (found Range, ok bool) {
	start, end = within(start, end)
	err := l.change(start, end, func(mine []Range) error {
		if ok = !l.free(Range{write, start, end}); ok {
			at := l.firstHeld(write, start, end)
			found = Range{Write: !l.free(Range{false, at, at}), Start: at, End: end}
			if end == last {
				found.End = math.MaxUint64
			}
		}
		var err error
		for _, k := range mine {
			err = errors.Join(err, l.take(k))
		}
		return err
	})
	return found, ok && err == nil
}

// firstHeld is the first byte in a range, in which there is one, that cannot be
// locked.
func (l *File) firstHeld(write bool, start, end uint64) uint64 {
	for start < end {
		if mid := start + (end-start)/2; l.free(Range{write, start, mid}) {
			start = mid + 1
		} else {
			end = mid
		}
	}
	return start
}

// change runs f with nothing of a range locked by l, and no other File changing
// anything: mine is what l had locked of it. What l has locked around the range
// stays locked.
func (l *File) change(start, end uint64, f func(mine []Range) error) error {
	door := Range{true, gate, gate}
	if err := l.lock(door, true); err != nil {
		return err
	}
	defer func() { _ = l.unlock(door) }()
	var mine, around []Range
	for _, k := range slices.Clone(l.held) {
		if k.End < start || k.Start > end {
			continue
		}
		if err := l.give(k); err != nil {
			return err
		}
		mine = append(mine, Range{k.Write, max(k.Start, start), min(k.End, end)})
		if k.Start < start {
			around = append(around, Range{k.Write, k.Start, start - 1})
		}
		if k.End > end {
			around = append(around, Range{k.Write, end + 1, k.End})
		}
	}
	for _, k := range around {
		if err := l.take(k); err != nil {
			return err
		}
	}
	return f(mine)
}

// take locks a range that l has locked nothing of.
func (l *File) take(k Range) error {
	if err := l.lock(k, false); err != nil {
		return err
	}
	l.held = append(l.held, k)
	return nil
}

// give unlocks a range as it was taken.
func (l *File) give(k Range) error {
	if err := l.unlock(k); err != nil {
		return err
	}
	l.held = slices.DeleteFunc(l.held, func(h Range) bool { return h == k })
	return nil
}

// free says whether a range could be locked.
func (l *File) free(k Range) bool {
	if l.lock(k, false) != nil {
		return false
	}
	_ = l.unlock(k)
	return true
}

// Close gives up everything.
func (l *File) Close() error {
	here := Range{false, presence, presence}
	alone := Range{true, presence, presence}
	var err error
	if l.unlock(here) == nil && l.lock(alone, false) == nil {
		err = remove(l.h)
	}
	return errors.Join(err, windows.CloseHandle(l.h))
}

// remove takes a file's name away while it is open, as on Unix; where the file
// system cannot, the file goes with its last handle.
func remove(h windows.Handle) error {
	posix := uint32(windows.FILE_DISPOSITION_DELETE | windows.FILE_DISPOSITION_POSIX_SEMANTICS)
	if setDisposition(h, windows.FileDispositionInfoEx, posix, 4) == nil {
		return nil
	}
	return setDisposition(h, windows.FileDispositionInfo, 1, 1)
}

func setDisposition(h windows.Handle, class, value, size uint32) error {
	buf := [4]byte{byte(value), byte(value >> 8), byte(value >> 16), byte(value >> 24)}
	return windows.SetFileInformationByHandle(h, class, &buf[0], size)
}

func overlapped(at uint64) *windows.Overlapped {
	return &windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
}

func (l *File) lock(k Range, wait bool) error {
	var flags uint32
	if k.Write {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if !wait {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	n := k.End - k.Start + 1
	err := windows.LockFileEx(l.h, flags, 0, uint32(n), uint32(n>>32), overlapped(k.Start))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrHeld
	}
	return err
}

func (l *File) unlock(k Range) error {
	n := k.End - k.Start + 1
	return windows.UnlockFileEx(l.h, 0, uint32(n), uint32(n>>32), overlapped(k.Start))
}
