// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"errors"
	"strings"
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Run runs the suite. Each case gets a directory of its own below the mount's
// root, which the suite removes.
func Run(t *testing.T, m Mount, traits Traits) {
	for _, group := range [][]testCase{
		fileCases, handleCases, directoryCases, attributeCases, nameCases, xattrCases,
	} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				x := begin(t, m, traits, c.name)
				c.run(x)
			})
		}
	}
}

type testCase struct {
	name string
	run  func(x *exam)
}

// exam is one case under way: a mount, and the directory to work in.
type exam struct {
	testing.TB
	Mount
	Traits
	dir string
}

func begin(t *testing.T, m Mount, traits Traits, name string) *exam {
	x := &exam{TB: t, Mount: m, Traits: traits, dir: "t-" + strings.ReplaceAll(name, " ", "-")}
	x.dir = x.dir[:min(len(x.dir), 100)]
	x.ok(m.Mkdir(x.dir, 0o755))
	t.Cleanup(func() { x.removeAll(x.dir) })
	return x
}

// p is a path in the case's directory, with no name the directory itself.
func (x *exam) p(name string) string { return strings.TrimSuffix(x.dir+"/"+name, "/") }

func (x *exam) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *exam) fails(err error, want ...linux.Errno) {
	x.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	x.Fatalf("error = %v, want %v", err, want)
}

func (x *exam) removeAll(p string) {
	list, _ := x.Readdir(p)
	for _, d := range list {
		if d.Type == linux.DTDir {
			x.removeAll(p + "/" + d.Name)
		} else {
			x.Unlink(p + "/" + d.Name)
		}
	}
	if err := x.Rmdir(p); err != nil {
		x.Errorf("remove %s: %v", p, err)
	}
}

func (x *exam) open(name string, flags linux.OpenFlags, mode linux.Mode) File {
	x.Helper()
	f, err := x.Open(x.p(name), flags, mode)
	if err != nil {
		x.Fatalf("open %s: %v", name, err)
	}
	return f
}

// write makes a file that holds text.
func (x *exam) write(name, text string) {
	x.Helper()
	f := x.open(name, linux.OCreate|linux.OTrunc|linux.ORdwr, 0o644)
	x.writeAt(f, text, 0)
	x.ok(f.Close())
}

func (x *exam) writeAt(f File, text string, off int64) {
	x.Helper()
	n, err := f.WriteAt([]byte(text), off)
	if err != nil || n != len(text) {
		x.Fatalf("write of %d bytes = %d, %v", len(text), n, err)
	}
}

func (x *exam) readAt(f File, off int64, n int) string {
	x.Helper()
	b := make([]byte, n)
	got, err := f.ReadAt(b, off)
	x.ok(err)
	return string(b[:got])
}

func (x *exam) read(name string) string {
	x.Helper()
	f := x.open(name, linux.ORdonly, 0)
	defer f.Close()
	return x.readAt(f, 0, 64<<10)
}

func (x *exam) holds(name, want string) {
	x.Helper()
	if got := x.read(name); got != want {
		x.Fatalf("%s holds %.40q (%d bytes), want %.40q (%d bytes)", name, got, len(got), want, len(want))
	}
}

func (x *exam) stat(name string) p9.Attr {
	x.Helper()
	a, err := x.Stat(x.p(name))
	if err != nil {
		x.Fatalf("stat %s: %v", name, err)
	}
	return a
}

func (x *exam) names(name string) map[string]uint8 {
	x.Helper()
	list, err := x.Readdir(x.p(name))
	x.ok(err)
	set := make(map[string]uint8, len(list))
	for _, d := range list {
		if _, twice := set[d.Name]; twice {
			x.Fatalf("%s is listed twice", d.Name)
		}
		set[d.Name] = d.Type
	}
	return set
}

func eq[T comparable](x *exam, what string, got, want T) {
	x.Helper()
	if got != want {
		x.Fatalf("%s = %v, want %v", what, got, want)
	}
}
