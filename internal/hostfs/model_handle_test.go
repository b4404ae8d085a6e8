// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"fmt"
	"slices"
	"strings"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9test"
)

// world is a tree and the files that are held open in it, two at the most by
// the path that they were opened by, whatever has become of that since.
type world struct {
	p9test.Mount
	files map[string]p9test.File
}

func newWorld(m p9test.Mount) *world { return &world{m, map[string]p9test.File{}} }

// slots are where files are held.
func (w *world) slots() []string {
	var all []string
	for s := range w.files {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// slot is where a file is held that is opened by the operation's path.
func (o op) slot() string { return fmt.Sprint(o.a, " ", o.b[0] == 'a') }

// drop closes what hold is to put another file in the place of.
func (w *world) drop(o op) string {
	f := w.files[o.slot()]
	if f == nil {
		return ""
	}
	delete(w.files, o.slot())
	return outcome(f.Close())
}

// hold opens a file and keeps it.
func (w *world) hold(o op) string {
	flags := linux.ORdwr
	if o.n%2 == 0 {
		flags |= linux.OCreate
	}
	if o.n%3 == 0 {
		flags |= linux.OAppend
	}
	if o.n%5 == 0 {
		flags |= linux.OTrunc
	}
	f, err := w.Open(o.a, flags, linux.Mode(o.n)&0o777)
	if err == nil {
		w.files[o.slot()] = f
	}
	return outcome(err)
}

// held is an operation by one of the files that are held, which may have lost
// its name or have another.
func (w *world) held(o op) string {
	slots := w.slots()
	if len(slots) == 0 {
		return "none is open"
	}
	f, err := w.files[slots[(len(o.a)+int(o.b[0]))%len(slots)]], error(nil)
	set := p9.SetAttr{Size: uint64(o.n), Mode: linux.Mode(o.n) & 0o7777, UID: uint32(o.n), GID: 7}
	switch o.kind {
	case "held write":
		n, err := f.WriteAt([]byte(strings.Repeat("h", o.n%100+1)), int64(o.n))
		return fmt.Sprint(n, outcome(err))
	case "held read":
		return whole(f)
	case "held truncate":
		set.Valid = p9.SetSize
		err = f.Setattr(set)
	case "held chmod":
		set.Valid = p9.SetMode
		err = f.Setattr(set)
	case "held chown":
		set.Valid = p9.SetUID | p9.SetGID
		err = f.Setattr(set)
	case "held setxattr":
		err = f.Setxattr("user.x", []byte(o.b), 0)
	case "held getxattr":
		x, err := f.Getxattr("user.x")
		return fmt.Sprintf("%q %s", x, outcome(err))
	case "held lock":
		status, err := f.Lock(uint8(o.n%3), uint64(o.n%4)*10, uint64(o.n%5)*10)
		return fmt.Sprint(status, outcome(err))
	}
	return outcome(err)
}

// end tells what each held file is, closes it, and describes the tree.
func (w *world) end() string {
	var b strings.Builder
	for _, path := range w.slots() {
		f := w.files[path]
		a, err := f.Stat()
		x, _ := f.Getxattr("user.x")
		fmt.Fprintf(&b, "held %s: %o %d:%d %d %d %q %s %s\n", path, a.Mode, a.UID, a.GID, a.Nlink, a.Size, x, outcome(err), whole(f))
	}
	for _, f := range w.files {
		if err := f.Close(); err != nil {
			fmt.Fprintln(&b, "close:", outcome(err))
		}
	}
	return b.String() + tree(w.Mount, "")
}
