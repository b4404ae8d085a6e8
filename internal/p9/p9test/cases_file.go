// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"strings"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

const (
	rdwr   = linux.ORdwr
	create = linux.OCreate
)

func size(n uint64) p9.SetAttr { return p9.SetAttr{Valid: p9.SetSize, Size: n} }

var fileCases = []testCase{
	{"a written file reads back", func(x *exam) {
		x.write("f", "hello")
		x.holds("f", "hello")
		eq(x, "size", x.stat("f").Size, 5)
		eq(x, "type", x.stat("f").Mode.Type(), linux.TypeRegular)
	}},
	{"a large file reads back", func(x *exam) {
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		chunk := strings.Repeat("0123456789abcdef", 4096)
		for i := range int64(64) {
			x.writeAt(f, chunk, i*int64(len(chunk)))
		}
		for _, off := range []int64{0, 1, 65535, 1 << 20, 4<<20 - 7} {
			got := x.readAt(f, off, 16)
			want := (chunk + chunk)[off%65536:][:16]
			eq(x, "bytes", got, want[:len(got)])
		}
	}},
	{"a read past the end is empty", func(x *exam) {
		x.write("f", "abc")
		f := x.open("f", linux.ORdonly, 0)
		defer f.Close()
		eq(x, "past end", x.readAt(f, 3, 10), "")
		eq(x, "across end", x.readAt(f, 1, 10), "bc")
	}},
	{"a hole reads as zeros", func(x *exam) {
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		x.writeAt(f, "x", 100000)
		eq(x, "hole", x.readAt(f, 99998, 10), "\x00\x00x")
	}},
	{"exclusive creation refuses an existing name", func(x *exam) {
		x.write("f", "keep")
		_, err := x.Open(x.p("f"), create|linux.OExcl|rdwr, 0o600)
		x.fails(err, linux.EEXIST)
		x.ok(x.Symlink("nowhere", x.p("l")))
		_, err = x.Open(x.p("l"), create|linux.OExcl|rdwr, 0o600)
		x.fails(err, linux.EEXIST)
		x.holds("f", "keep")
	}},
	{"creation without exclusion opens what is there", func(x *exam) {
		x.write("f", "keep")
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{Valid: p9.SetMode, Mode: 0o640}))
		f := x.open("f", create|rdwr, 0o777)
		eq(x, "contents", x.readAt(f, 0, 10), "keep")
		x.ok(f.Close())
		eq(x, "mode", x.stat("f").Mode.Perm(), 0o640)
	}},
	{"O_TRUNC empties", func(x *exam) {
		x.write("f", "something")
		x.ok(x.open("f", rdwr|linux.OTrunc, 0).Close())
		eq(x, "size", x.stat("f").Size, 0)
	}},
	{"O_APPEND writes at the end", func(x *exam) {
		x.write("f", "one")
		f := x.open("f", rdwr|linux.OAppend, 0)
		x.writeAt(f, "two", 3)
		x.ok(f.Close())
		x.holds("f", "onetwo")
	}},
	{"opening for reading does not allow writing", func(x *exam) {
		x.write("f", "abc")
		f := x.open("f", linux.ORdonly, 0)
		defer f.Close()
		_, err := f.WriteAt([]byte("x"), 0)
		x.fails(err, linux.EBADF)
	}},
	{"opening for writing does not allow reading", func(x *exam) {
		x.write("f", "abc")
		f := x.open("f", linux.OWronly, 0)
		defer f.Close()
		_, err := f.ReadAt(make([]byte, 1), 0)
		x.fails(err, linux.EBADF)
	}},
	{"access mode 3 allows neither reading nor writing", func(x *exam) {
		x.write("f", "abc")
		f := x.open("f", linux.ONoaccess, 0)
		defer f.Close()
		_, err := f.ReadAt(make([]byte, 1), 0)
		x.fails(err, linux.EBADF)
		_, err = f.WriteAt([]byte("x"), 0)
		x.fails(err, linux.EBADF)
		a, err := f.Stat()
		x.ok(err)
		eq(x, "size", a.Size, 3)
	}},
	{"a mode without permissions binds later opens only", func(x *exam) {
		f := x.open("f", create|linux.OExcl|rdwr, 0o400)
		x.writeAt(f, "x", 0)
		x.ok(f.Setattr(size(0)))
		x.ok(f.Close())
		eq(x, "mode", x.stat("f").Mode.Perm(), 0o400)
	}},
	{"truncation shrinks and grows", func(x *exam) {
		x.write("f", "0123456789")
		x.ok(x.Setattr(x.p("f"), size(4)))
		x.holds("f", "0123")
		x.ok(x.Setattr(x.p("f"), size(6)))
		x.holds("f", "0123\x00\x00")
	}},
	{"fsync and fdatasync succeed", func(x *exam) {
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		x.writeAt(f, "x", 0)
		x.ok(f.Sync(true))
		x.ok(f.Sync(false))
	}},
	{"a directory can be synced", func(x *exam) {
		d, err := x.Open(x.dir, linux.ORdonly|linux.ODirectory, 0)
		x.ok(err)
		x.ok(d.Sync(false))
		x.ok(d.Close())
	}},
	{"a directory cannot be opened for writing", func(x *exam) {
		_, err := x.Open(x.dir, rdwr, 0)
		x.fails(err, linux.EISDIR)
	}},
	{"O_DIRECTORY refuses a file", func(x *exam) {
		x.write("f", "")
		_, err := x.Open(x.p("f"), linux.ORdonly|linux.ODirectory, 0)
		x.fails(err, linux.ENOTDIR)
	}},
	{"opening a symbolic link itself fails", func(x *exam) {
		x.write("f", "")
		x.ok(x.Symlink("f", x.p("l")))
		_, err := x.Open(x.p("l"), linux.ORdonly|linux.ONofollow, 0)
		x.fails(err, linux.ELOOP)
	}},
	{"the file system tells its size", func(x *exam) {
		s, err := x.Statfs(x.dir)
		x.ok(err)
		if s.Bsize == 0 || s.Blocks == 0 || s.NameLen < 200 {
			x.Fatalf("statfs = %+v", s)
		}
	}},
}

var handleCases = []testCase{
	{"an unlinked open file lives on", func(x *exam) {
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		x.writeAt(f, "before", 0)
		x.ok(x.Unlink(x.p("f")))
		x.writeAt(f, "after!", 0)
		eq(x, "contents", x.readAt(f, 0, 10), "after!")
		a, err := f.Stat()
		x.ok(err)
		eq(x, "nlink", a.Nlink, 0)
		eq(x, "size", a.Size, 6)
	}},
	{"an unlinked open file can be changed", func(x *exam) {
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		x.ok(x.Unlink(x.p("f")))
		x.ok(f.Setattr(size(100)))
		x.ok(f.Setattr(p9.SetAttr{Valid: p9.SetMode, Mode: 0o751}))
		x.ok(f.Setattr(p9.SetAttr{
			Valid: p9.SetMtime | p9.SetMtimeSet, Mtime: p9.Time{Sec: 1e9},
		}))
		x.ok(f.Sync(false))
		a, err := f.Stat()
		x.ok(err)
		eq(x, "size", a.Size, 100)
		eq(x, "mode", a.Mode.Perm(), 0o751)
		eq(x, "mtime", a.Mtime.Sec, 1e9)
	}},
	{"an unlinked open file takes attributes", func(x *exam) {
		if x.NoXattr {
			return
		}
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		x.ok(x.Unlink(x.p("f")))
		x.ok(f.Setxattr("user.a", []byte("v"), 0))
		v, err := f.Getxattr("user.a")
		x.ok(err)
		eq(x, "value", string(v), "v")
	}},
	{"an open file follows its renames", func(x *exam) {
		x.ok(x.Mkdir(x.p("a"), 0o755))
		f := x.open("a/f", create|rdwr, 0o600)
		defer f.Close()
		x.ok(x.Rename(x.p("a/f"), x.p("a/g")))
		x.ok(x.Rename(x.p("a"), x.p("b")))
		x.writeAt(f, "moved", 0)
		x.ok(f.Setattr(size(3)))
		x.ok(f.Setattr(p9.SetAttr{Valid: p9.SetMode, Mode: 0o604}))
		x.holds("b/g", "mov")
		eq(x, "mode", x.stat("b/g").Mode.Perm(), 0o604)
	}},
	{"a file replaced by rename stays what it was", func(x *exam) {
		x.write("old", "old")
		x.write("new", "new")
		f := x.open("old", linux.ORdonly, 0)
		defer f.Close()
		x.ok(x.Rename(x.p("new"), x.p("old")))
		eq(x, "through the handle", x.readAt(f, 0, 10), "old")
		x.holds("old", "new")
	}},
	{"a removed directory stays open", func(x *exam) {
		x.ok(x.Mkdir(x.p("d"), 0o755))
		d, err := x.Open(x.p("d"), linux.ORdonly|linux.ODirectory, 0)
		x.ok(err)
		defer d.Close()
		x.ok(x.Rmdir(x.p("d")))
		a, err := d.Stat()
		x.ok(err)
		eq(x, "type", a.Mode.Type(), linux.TypeDir)
	}},
	{"truncation through a handle ignores a changed mode", func(x *exam) {
		f := x.open("f", create|rdwr, 0o600)
		defer f.Close()
		x.writeAt(f, "0123456789", 0)
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{Valid: p9.SetMode, Mode: 0}))
		x.ok(f.Setattr(size(4)))
		a, err := f.Stat()
		x.ok(err)
		eq(x, "size", a.Size, 4)
	}},
}
