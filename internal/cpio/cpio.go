// SPDX-License-Identifier: Apache-2.0

// Package cpio writes newc archives, the form of Linux's initial root file
// system. What it writes depends on the entries alone: they are sorted by name,
// numbered in that order, and carry no time.
package cpio

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Type bits of Entry.Mode, as in stat(2).
const (
	TypeDir     = 0o040000
	TypeRegular = 0o100000
	TypeSymlink = 0o120000
	TypeChar    = 0o020000
)

const typeMask = 0o170000

// Entry is one file of an archive; its owner is root.
type Entry struct {
	// Name is the path without a leading slash.
	Name string
	// Mode holds type and permissions, as in stat(2).
	Mode uint32
	// Data is a regular file's content or a symlink's target.
	Data []byte
	// Major and Minor are a device's numbers.
	Major, Minor uint32
}

// maxName is the kernel's PATH_MAX: its unpacker skips longer names.
const maxName = 4096

func (e Entry) check() error {
	kind := e.Mode & typeMask
	switch {
	case e.Name == "" || len(e.Name) >= maxName || strings.HasPrefix(e.Name, "/") || strings.ContainsRune(e.Name, 0):
		return fmt.Errorf("cpio entry %q: bad name", e.Name)
	case e.Name == trailer:
		return fmt.Errorf("cpio entry %q: reserved name", e.Name)
	case len(e.Data) != 0 && kind != TypeRegular && kind != TypeSymlink:
		return fmt.Errorf("cpio entry %q: data in a file of type %#o", e.Name, kind)
	case kind != TypeDir && kind != TypeRegular && kind != TypeSymlink && kind != TypeChar:
		return fmt.Errorf("cpio entry %q: type %#o", e.Name, kind)
	case uint64(len(e.Data)) > 1<<32-1:
		return fmt.Errorf("cpio entry %q: %d bytes do not fit", e.Name, len(e.Data))
	}
	return nil
}

const trailer = "TRAILER!!!"

// Write writes an archive of the entries to w. Directories must come with the
// entries: none is made up. Two entries of one name are an error.
func Write(w io.Writer, entries []Entry) error {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	out := &writer{w: w}
	for i, e := range sorted {
		if err := e.check(); err != nil {
			return err
		}
		if i > 0 && sorted[i-1].Name == e.Name {
			return fmt.Errorf("cpio entry %q: name used twice", e.Name)
		}
		out.entry(uint32(i+1), e)
	}
	out.entry(0, Entry{Name: trailer})
	if out.err != nil {
		return fmt.Errorf("write cpio archive: %w", out.err)
	}
	return nil
}

// writer keeps the first error and counts bytes for the padding.
type writer struct {
	w   io.Writer
	n   int
	err error
}

// entry writes the header of 13 hexadecimal fields, the name and the data, the
// latter two padded to four bytes.
func (w *writer) entry(ino uint32, e Entry) {
	links := uint32(1)
	if e.Mode&typeMask == TypeDir {
		links = 2
	}
	w.write([]byte("070701"))
	for _, field := range []uint32{
		ino, e.Mode, 0, 0, links, 0, uint32(len(e.Data)),
		0, 0, e.Major, e.Minor, uint32(len(e.Name) + 1), 0,
	} {
		w.write(fmt.Appendf(nil, "%08X", field))
	}
	w.write([]byte(e.Name + "\x00"))
	w.pad()
	w.write(e.Data)
	w.pad()
}

func (w *writer) pad() {
	w.write(make([]byte, -w.n&3))
}

func (w *writer) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	w.n, w.err = w.n+n, err
}
