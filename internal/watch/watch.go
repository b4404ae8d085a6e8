// SPDX-License-Identifier: Apache-2.0

// Package watch tells of changes in directories of the host: a name appears,
// goes or moves, a file's contents or attributes change. Whoever made the
// change, the caller's own process included, it is told.
//
// A Watcher has one root. On Linux it watches the directories that are added
// to it, each with one inotify watch, so that what happens elsewhere below the
// root costs nothing; on Windows the whole tree below the root is watched by
// one handle and Add has nothing to do. Other systems, and file systems whose
// changes may be made by other machines, are [errors.ErrUnsupported].
//
// Decoding of the host's records and the pairing of renames are pure and the
// same on every host.
//
// Watcher.mu guards the tables; it is held across inotify_add_watch, so that
// no event can come of a directory that is not in them yet.
package watch

import (
	"errors"
	"fmt"
)

// ID is the caller's name for a directory; 0 is the root.
type ID uint64

// Op is a set of what happened.
type Op uint8

// What can happen to a name.
const (
	// Create says that the name appeared.
	Create Op = 1 << iota
	// Remove says that the name went.
	Remove
	// Modify says that the file's contents changed.
	Modify
	// Close says that somebody who could have changed the contents closed
	// the file. Not every host tells.
	Close
	// Attrib says that attributes changed.
	Attrib
	// Rename says that the name moved to Event.ToDir and Event.To. It stands
	// alone.
	Rename
	// Lost says that events were lost: anything may have changed. It stands
	// alone and names nothing.
	Lost
)

// Event is something that happened to a name in a watched directory.
type Event struct {
	Dir ID
	// Name is one name in Dir, or where the host watches trees a path below
	// the root, with slashes.
	Name string
	Op   Op
	// IsDir says that the name is or was a directory's, where the host knows.
	IsDir bool
	// ToDir and To are where a Rename led.
	ToDir ID
	To    string
}

// Identity is the host's own name for a file, to make sure that a path leads
// to the directory that was meant. The zero value is not checked.
type Identity struct{ Volume, File uint64 }

// ErrClosed is what Next returns once the watcher is closed.
var ErrClosed = errors.New("watcher is closed")

// Open returns a watcher whose root, the directory path, is not watched yet on
// Linux: add it as ID 0. An error that is [errors.ErrUnsupported] says that
// the host cannot tell of changes there, and why.
func Open(path string) (*Watcher, error) {
	w, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	return w, nil
}

// Limit returns how many directories one user may watch on this host, in all
// programs together; 0 means that there is no bound, or that it is not known.
func Limit() int { return limit() }

// Supported returns nil if changes below path can be told, else an error that
// says why not.
func Supported(path string) error {
	if err := supported(path); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	return nil
}
