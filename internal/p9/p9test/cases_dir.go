// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"fmt"
	"strings"

	"byre.dev/byre/internal/linux"
)

var directoryCases = []testCase{
	{"a directory lists what is in it", func(x *exam) {
		x.write("f", "")
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.ok(x.Symlink("f", x.p("l")))
		got := x.names("")
		eq(x, "entries", len(got), 3)
		eq(x, "f", got["f"], linux.DTRegular)
		eq(x, "d", got["d"], linux.DTDir)
		eq(x, "l", got["l"], linux.DTSymlink)
	}},
	{"entries carry the inode number of stat", func(x *exam) {
		x.write("f", "")
		list, err := x.Readdir(x.dir)
		x.ok(err)
		eq(x, "entries", len(list), 1)
		eq(x, "inode", list[0].QID.Path, x.stat("f").QID.Path)
	}},
	{"ten thousand entries are listed once each", func(x *exam) {
		n := 10000
		if x.Slow {
			n /= 10
		}
		for i := range n {
			f := x.open(fmt.Sprintf("file-%05d", i), create|linux.OExcl|linux.OWronly, 0o600)
			f.Close()
		}
		got := x.names("")
		eq(x, "entries", len(got), n)
		for i := range n {
			if _, ok := got[fmt.Sprintf("file-%05d", i)]; !ok {
				x.Fatalf("file-%05d is not listed", i)
			}
		}
	}},
	{"a directory emptied while it is listed ends up empty", func(x *exam) {
		for i := range 500 {
			x.write(fmt.Sprint(i), "")
		}
		for name := range x.names("") {
			x.ok(x.Unlink(x.p(name)))
		}
		eq(x, "entries", len(x.names("")), 0)
	}},
	{"mkdir refuses an existing name", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.fails(x.Mkdir(x.p("d"), 0o755), linux.EEXIST)
		x.write("f", "")
		x.fails(x.Mkdir(x.p("f"), 0o755), linux.EEXIST)
		x.fails(x.Mkdir(x.p("no/d"), 0o755), linux.ENOENT)
		x.fails(x.Mkdir(x.p("f/d"), 0o755), linux.ENOTDIR)
	}},
	{"rmdir refuses what is not empty or no directory", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.write("d/f", "")
		x.fails(x.Rmdir(x.p("d")), linux.ENOTEMPTY)
		x.fails(x.Rmdir(x.p("d/f")), linux.ENOTDIR)
		x.fails(x.Rmdir(x.p("no")), linux.ENOENT)
		x.ok(x.Unlink(x.p("d/f")))
		x.ok(x.Rmdir(x.p("d")))
	}},
	{"unlink refuses a directory", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.fails(x.Unlink(x.p("d")), linux.EISDIR, linux.EPERM)
		x.fails(x.Unlink(x.p("no")), linux.ENOENT)
	}},
	{"a directory counts its subdirectories or says one link", func(x *exam) {
		x.ok(x.Mkdir(x.p("a"), 0o755))
		x.ok(x.Mkdir(x.p("b"), 0o755))
		if n := x.stat("").Nlink; n != 4 && n != 1 {
			x.Fatalf("nlink = %d", n)
		}
	}},
	{"names are bytes", func(x *exam) {
		for _, name := range []string{
			"with space", "tab\tand\nnewline", "ünïcödé", "\xff\xfe not UTF-8", `back\slash`,
			"con", "aux.txt", "trailing.", "trailing ", "a:b", "*?<>|\"", "..hidden", "-rf",
		} {
			x.write(name, name)
			x.holds(name, name)
			if _, ok := x.names("")[name]; !ok {
				x.Fatalf("%q is not listed", name)
			}
		}
	}},
	{"names tell upper from lower case", func(x *exam) {
		x.write("Name", "upper")
		x.write("name", "lower")
		x.holds("Name", "upper")
		x.holds("name", "lower")
		eq(x, "entries", len(x.names("")), 2)
	}},
	{"names of 255 bytes are the longest", func(x *exam) {
		long := strings.Repeat("n", 255)
		x.write(long, "x")
		x.holds(long, "x")
		_, err := x.Open(x.p(long+"n"), create|rdwr, 0o600)
		x.fails(err, linux.ENAMETOOLONG)
	}},
	{"a tree a hundred levels deep works", func(x *exam) {
		p, levels := "d", 100
		if x.Slow {
			levels = 20
		}
		for range levels {
			x.ok(x.Mkdir(x.p(p), 0o755))
			p += "/d"
		}
		x.write(p+"f", "deep")
		x.holds(p+"f", "deep")
	}},
}

var nameCases = []testCase{
	{"rename moves within a directory", func(x *exam) {
		x.write("a", "x")
		x.ok(x.Rename(x.p("a"), x.p("b")))
		x.holds("b", "x")
		_, err := x.Stat(x.p("a"))
		x.fails(err, linux.ENOENT)
	}},
	{"rename moves between directories", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.write("a", "x")
		x.ok(x.Rename(x.p("a"), x.p("d/b")))
		x.holds("d/b", "x")
		eq(x, "entries", len(x.names("")), 1)
	}},
	{"rename replaces a file", func(x *exam) {
		x.write("a", "new")
		x.write("b", "old")
		x.ok(x.Rename(x.p("a"), x.p("b")))
		x.holds("b", "new")
		eq(x, "entries", len(x.names("")), 1)
	}},
	{"rename replaces an empty directory only", func(x *exam) {
		x.ok(x.Mkdir(x.p("a"), 0o755))
		x.ok(x.Mkdir(x.p("b"), 0o755))
		x.ok(x.Mkdir(x.p("c"), 0o755))
		x.write("c/f", "")
		x.ok(x.Rename(x.p("a"), x.p("b")))
		x.fails(x.Rename(x.p("b"), x.p("c")), linux.ENOTEMPTY, linux.EEXIST)
	}},
	{"rename keeps files and directories apart", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.write("f", "")
		x.fails(x.Rename(x.p("f"), x.p("d")), linux.EISDIR)
		x.fails(x.Rename(x.p("d"), x.p("f")), linux.ENOTDIR)
	}},
	{"a directory cannot move into itself", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.ok(x.Mkdir(x.p("d/e"), 0o755))
		x.fails(x.Rename(x.p("d"), x.p("d/e/f")), linux.EINVAL)
	}},
	{"rename of a name to itself does nothing", func(x *exam) {
		x.write("a", "x")
		x.ok(x.Rename(x.p("a"), x.p("a")))
		x.holds("a", "x")
		x.fails(x.Rename(x.p("no"), x.p("a")), linux.ENOENT)
	}},
	{"a moved directory takes its contents along", func(x *exam) {
		x.ok(x.Mkdir(x.p("a"), 0o755))
		x.ok(x.Mkdir(x.p("a/b"), 0o755))
		x.write("a/b/f", "x")
		x.ok(x.Mkdir(x.p("c"), 0o755))
		x.ok(x.Rename(x.p("a"), x.p("c/a")))
		x.holds("c/a/b/f", "x")
		x.write("c/a/b/g", "y")
		x.holds("c/a/b/g", "y")
	}},
	{"hard links are one file", func(x *exam) {
		x.write("a", "one")
		x.ok(x.Link(x.p("a"), x.p("b")))
		eq(x, "inode", x.stat("b").QID, x.stat("a").QID)
		eq(x, "nlink", x.stat("a").Nlink, 2)
		f := x.open("a", rdwr, 0)
		x.writeAt(f, "two", 0)
		x.ok(f.Close())
		x.holds("b", "two")
		x.ok(x.Unlink(x.p("a")))
		x.holds("b", "two")
		eq(x, "nlink", x.stat("b").Nlink, 1)
	}},
	{"link refuses an existing name and directories", func(x *exam) {
		x.write("a", "")
		x.write("b", "")
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.fails(x.Link(x.p("a"), x.p("b")), linux.EEXIST)
		x.fails(x.Link(x.p("d"), x.p("e")), linux.EPERM)
	}},
	{"rename between names of one file does nothing", func(x *exam) {
		x.write("a", "x")
		x.ok(x.Link(x.p("a"), x.p("b")))
		x.ok(x.Rename(x.p("a"), x.p("b")))
		eq(x, "nlink", x.stat("a").Nlink, 2)
	}},
	{"a symbolic link keeps its target", func(x *exam) {
		for i, target := range []string{"f", "../../outside", "/etc/passwd", strings.Repeat("x", 4000)} {
			name := fmt.Sprint("l", i)
			x.ok(x.Symlink(target, x.p(name)))
			got, err := x.Readlink(x.p(name))
			x.ok(err)
			eq(x, "target", got, target)
			a := x.stat(name)
			eq(x, "type", a.Mode.Type(), linux.TypeSymlink)
			eq(x, "size", a.Size, uint64(len(target)))
		}
	}},
	{"readlink refuses what is no link", func(x *exam) {
		x.write("f", "")
		_, err := x.Readlink(x.p("f"))
		x.fails(err, linux.EINVAL)
	}},
	{"a symbolic link can be renamed and linked", func(x *exam) {
		x.ok(x.Symlink("target", x.p("l")))
		x.ok(x.Rename(x.p("l"), x.p("m")))
		x.ok(x.Link(x.p("m"), x.p("n")))
		eq(x, "inode", x.stat("n").QID.Path, x.stat("m").QID.Path)
	}},
}
