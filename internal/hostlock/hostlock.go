// SPDX-License-Identifier: Apache-2.0

// Package hostlock locks byte ranges between the processes of a user, in lock
// files: files that have locks and no contents. They stand for files whose own
// locks will not do: those that cannot be opened, and on Windows all, where a
// lock keeps others from reading and writing. There is no process between, and
// what a process had locked is given up with it, however it ends.
package hostlock

import (
	"errors"
	"math"
)

// ErrHeld says that a lock of another File stands in the way.
var ErrHeld = errors.New("range is locked by another")

// Range is a range that is locked; both ends are included.
type Range struct {
	Write      bool
	Start, End uint64
}

// last is how far ranges reach: what is asked for beyond it is taken for it.
// The bytes after it have meanings of their own.
const last = math.MaxInt64 - 2

const (
	// gate is locked, where locks cannot be turned into others in one step, by
	// who does it in several.
	gate = math.MaxInt64 - 1
	// presence is locked for reading by whoever has the file open, so that who
	// can lock it for writing is alone and may remove the file.
	presence = math.MaxInt64
)

// Of is the byte that stands for a number, in a file that has one for each of
// many things. Numbers beyond what locks reach share bytes with others.
func Of(number uint64) uint64 { return number % (last + 1) }

func within(start, end uint64) (uint64, uint64) { return min(start, last), min(end, last) }

// file is what each system's File does. Nothing waits for a lock of a range, and
// nothing is called concurrently. The start of a range is not after its end.
type file interface {
	// Set locks a range in place of what the File had locked of it. With
	// ErrHeld the range is in any state, and what is around it as it was.
	Set(write bool, start, end uint64) error
	// Clear unlocks a range.
	Clear(start, end uint64) error
	// Find tells of another's lock in the way.
	Find(write bool, start, end uint64) (Range, bool)
	// Close gives up everything, and removes the file if nobody else has it
	// open.
	Close() error
}

var _ file = (*File)(nil)
