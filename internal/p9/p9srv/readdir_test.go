// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"strings"
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// listed is a directory of n entries, after which reading it fails with e.
type listed struct {
	flat
	n int
	e linux.Errno
}

func (l listed) Clone() p9srv.Node                              { return l }
func (l listed) Open(linux.OpenFlags) (p9srv.File, linux.Errno) { return listedFile{l: l}, 0 }

type listedFile struct {
	p9srv.UnimplementedFile
	l listed
}

func (f listedFile) Readdir(off uint64, emit func(*p9.Dirent) bool) linux.Errno {
	for i := off; i < uint64(f.l.n); i++ {
		if !emit(&p9.Dirent{Offset: i + 1, Name: strings.Repeat("n", int(1+i%linux.NameMax))}) {
			return 0
		}
	}
	return f.l.e
}

// byre's kernel asks no further when there was room for any entry.
func TestAReplyWithRoomForAnyEntryIsTheLast(t *testing.T) {
	const entries, count = 3000, 8000
	largest := (&p9.Dirent{Name: strings.Repeat("n", linux.NameMax)}).Size()
	root := p9test.Attach(t, &p9srv.Server{Root: listed{flat: flat{dir: true}, n: entries}}, 0)
	if err := root.Open(linux.ORdonly); err != nil {
		t.Fatal(err)
	}
	for off := uint64(0); ; {
		list, err := root.Readdir(off, count)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for i := range list {
			size += list[i].Size()
		}
		off = list[len(list)-1].Offset
		if room := size+largest <= count; room != (off == entries) {
			t.Fatalf("%d bytes of %d up to entry %d of %d", size, count, off, entries)
		}
		if off == entries {
			return
		}
	}
}

func TestAnOpenedDirectoryComesWithItsFirstEntries(t *testing.T) {
	const entries, count = 300, 8000
	root := p9test.Attach(t, &p9srv.Server{Root: listed{flat: flat{dir: true}, n: entries}}, 0)
	dir, list, err := root.Opendir(linux.ORdonly, count)
	if err != nil {
		t.Fatal(err)
	}
	for len(list) < entries {
		more, err := dir.Readdir(list[len(list)-1].Offset, count)
		if err != nil || len(more) == 0 {
			t.Fatalf("%d entries after %d: %v", len(more), len(list), err)
		}
		list = append(list, more...)
	}
	for i, d := range list {
		if d.Offset != uint64(i+1) {
			t.Fatalf("entry %d is %d", i+1, d.Offset)
		}
	}
	if err := dir.Clunk(); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeOpenedAsADirectoryLeavesNoFIDBehind(t *testing.T) {
	for name, c := range map[string]struct {
		node  listed
		flags linux.OpenFlags
		count uint32
		want  linux.Errno
	}{
		"a file":                    {listed{}, linux.ORdonly, 8000, linux.ENOTDIR},
		"for writing":               {listed{flat: flat{dir: true}}, linux.ORdwr, 8000, linux.EISDIR},
		"a directory that fails":    {listed{flat: flat{dir: true}, n: 3, e: linux.EIO}, linux.ORdonly, 8000, linux.EIO},
		"no room for a first entry": {listed{flat: flat{dir: true}, n: 3}, linux.ORdonly, 10, linux.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			root := p9test.Attach(t, &p9srv.Server{Root: c.node}, 0)
			if _, _, err := root.Opendir(c.flags, c.count); err != c.want {
				t.Fatalf("opening it: %v, want %v", err, c.want)
			}
			// The same number is free.
			if f, err := root.Walk(); err != nil {
				t.Error(err)
			} else if err := f.Clunk(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADirectoryThatFailsAfterSomeEntriesIsNotTakenForWhole(t *testing.T) {
	root := p9test.Attach(t, &p9srv.Server{Root: listed{flat: flat{dir: true}, n: 3, e: linux.EIO}}, 0)
	if err := root.Open(linux.ORdonly); err != nil {
		t.Fatal(err)
	}
	if list, err := root.Readdir(0, 8000); err == nil {
		t.Errorf("%d entries and no error", len(list))
	}
}
