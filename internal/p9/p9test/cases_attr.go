// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"bytes"
	"slices"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/testenv"
)

func mode(m linux.Mode) p9.SetAttr { return p9.SetAttr{Valid: p9.SetMode, Mode: m} }

func owner(uid, gid uint32) p9.SetAttr {
	return p9.SetAttr{Valid: p9.SetUID | p9.SetGID, UID: uid, GID: gid}
}

var attributeCases = []testCase{
	{"every permission bit can be set", func(x *exam) {
		x.write("f", "")
		x.ok(x.Mkdir(x.p("d"), 0o755))
		for _, m := range []linux.Mode{0, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o1777, 0o7777} {
			for _, name := range []string{"f", "d"} {
				x.ok(x.Setattr(x.p(name), mode(m)))
				eq(x, "mode of "+name, x.stat(name).Mode.Perm(), m)
			}
		}
		x.ok(x.Setattr(x.p("d"), mode(0o755)))
	}},
	{"a file without permissions can be opened by root", func(x *exam) {
		x.write("f", "secret")
		x.ok(x.Setattr(x.p("f"), mode(0)))
		if x.Unprivileged {
			return
		}
		x.holds("f", "secret")
		eq(x, "mode", x.stat("f").Mode.Perm(), 0)
	}},
	{"modes of creation are kept whatever the umask", func(x *exam) {
		x.ok(x.open("f", create|rdwr, 0o666).Close())
		x.ok(x.Mkdir(x.p("d"), 0o777))
		eq(x, "file", x.stat("f").Mode.Perm(), 0o666)
		eq(x, "directory", x.stat("d").Mode.Perm(), 0o777)
	}},
	{"owners can be set", func(x *exam) {
		if x.Unprivileged {
			return
		}
		x.write("f", "")
		x.ok(x.Mkdir(x.p("d"), 0o755))
		for _, name := range []string{"f", "d"} {
			x.ok(x.Setattr(x.p(name), owner(999, 4000000000)))
			a := x.stat(name)
			eq(x, "uid", a.UID, 999)
			eq(x, "gid", a.GID, 4000000000)
			x.ok(x.Setattr(x.p(name), p9.SetAttr{Valid: p9.SetGID, GID: 7}))
			a = x.stat(name)
			eq(x, "uid", a.UID, 999)
			eq(x, "gid", a.GID, 7)
		}
	}},
	{"symbolic links have owners", func(x *exam) {
		if x.Unprivileged || x.NoLinkOwner {
			return
		}
		x.write("f", "")
		before := x.stat("f")
		x.ok(x.Symlink("f", x.p("l")))
		x.ok(x.Setattr(x.p("l"), owner(33, 34)))
		a := x.stat("l")
		eq(x, "uid", a.UID, 33)
		eq(x, "gid", a.GID, 34)
		eq(x, "uid of the target", x.stat("f").UID, before.UID)
	}},
	{"a change of owner clears set-id bits", func(x *exam) {
		if x.Unprivileged {
			return
		}
		x.write("f", "")
		x.ok(x.Setattr(x.p("f"), mode(0o6755)))
		x.ok(x.Setattr(x.p("f"), owner(5, 5)))
		eq(x, "mode", x.stat("f").Mode.Perm(), 0o755)
	}},
	{"a set-group-id directory hands its group down", func(x *exam) {
		if x.Unprivileged {
			return
		}
		x.ok(x.Mkdir(x.p("d"), 0o755))
		x.ok(x.Setattr(x.p("d"), owner(0, 50)))
		x.ok(x.Setattr(x.p("d"), mode(0o2775)))
		x.write("d/f", "")
		x.ok(x.Mkdir(x.p("d/e"), 0o755))
		eq(x, "gid of file", x.stat("d/f").GID, 50)
		eq(x, "gid of directory", x.stat("d/e").GID, 50)
		eq(x, "mode of directory", x.stat("d/e").Mode.Perm(), 0o2755)
	}},
	{"times can be set", func(x *exam) {
		x.write("f", "")
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{
			Valid: p9.SetAtime | p9.SetAtimeSet | p9.SetMtime | p9.SetMtimeSet,
			Atime: p9.Time{Sec: 1000000000, Nsec: 123456789},
			Mtime: p9.Time{Sec: 1500000000, Nsec: 987654321},
		}))
		a := x.stat("f")
		eq(x, "atime", a.Atime.Sec, 1000000000)
		eq(x, "mtime", a.Mtime.Sec, 1500000000)
		if !x.NoNanoseconds {
			eq(x, "atime ns", a.Atime.Nsec, 123456789)
			eq(x, "mtime ns", a.Mtime.Nsec, 987654321)
		}
	}},
	{"times before 1970 are kept", func(x *exam) {
		if x.NoNanoseconds {
			testenv.Skip(x, testenv.Feature, "the mount keeps whole seconds since 1970")
		}
		x.write("f", "")
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{
			Valid: p9.SetAtime | p9.SetAtimeSet | p9.SetMtime | p9.SetMtimeSet,
			Atime: p9.Time{Sec: -1}, Mtime: p9.Time{Sec: -100, Nsec: 123456789},
		}))
		a := x.stat("f")
		eq(x, "atime", a.Atime, p9.Time{Sec: -1})
		eq(x, "mtime", a.Mtime, p9.Time{Sec: -100, Nsec: 123456789})
	}},
	{"one time can be set alone, and to now", func(x *exam) {
		x.write("f", "")
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{
			Valid: p9.SetMtime | p9.SetMtimeSet, Mtime: p9.Time{Sec: 1},
		}))
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{
			Valid: p9.SetAtime | p9.SetAtimeSet, Atime: p9.Time{Sec: 2},
		}))
		a := x.stat("f")
		eq(x, "mtime", a.Mtime.Sec, 1)
		eq(x, "atime", a.Atime.Sec, 2)
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{Valid: p9.SetMtime}))
		// Now is the server's, whose clock may not be the one here.
		x.write("g", "")
		if d := x.stat("g").Mtime.Sec - x.stat("f").Mtime.Sec; d < -2 || d > 60 {
			x.Fatalf("mtime is %d s before that of a file made after it", d)
		}
	}},
	{"writing moves mtime", func(x *exam) {
		x.write("f", "")
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{
			Valid: p9.SetMtime | p9.SetMtimeSet, Mtime: p9.Time{Sec: 1},
		}))
		f := x.open("f", rdwr, 0)
		x.writeAt(f, "x", 0)
		x.ok(f.Close())
		if x.stat("f").Mtime.Sec == 1 {
			x.Fatal("mtime did not move")
		}
	}},
	{"devices, FIFOs and sockets can be made", func(x *exam) {
		if x.Unprivileged {
			return
		}
		for name, c := range map[string]struct {
			mode         linux.Mode
			major, minor uint32
		}{
			"char": {linux.TypeChar | 0o620, 1, 3}, "block": {linux.TypeBlock | 0o600, 259, 300},
			"fifo": {linux.TypeFIFO | 0o644, 0, 0}, "socket": {linux.TypeSocket | 0o755, 0, 0},
		} {
			x.ok(x.Mknod(x.p(name), c.mode, c.major, c.minor))
			a := x.stat(name)
			eq(x, "mode of "+name, a.Mode, c.mode)
			rdev := uint64(c.minor&0xff | c.major<<8 | c.minor&^0xff<<12)
			eq(x, "device of "+name, a.Rdev, rdev)
			eq(x, "type in the list", x.names("")[name], c.mode.DirentType())
		}
	}},
	{"special files are not opened by the server", func(x *exam) {
		if x.Unprivileged {
			return
		}
		x.ok(x.Mknod(x.p("null"), linux.TypeChar|0o666, 1, 3))
		if _, local := x.Mount.(*clientMount); !local {
			return
		}
		_, err := x.Open(x.p("null"), linux.ORdonly, 0)
		x.fails(err, linux.ENXIO)
	}},
	{"the time of birth does not change", func(x *exam) {
		x.write("f", "")
		before := x.stat("f")
		if before.Valid&p9.AttrBtime == 0 {
			return // stat(2) does not tell it
		}
		x.ok(x.Setattr(x.p("f"), p9.SetAttr{Valid: p9.SetMtime | p9.SetMtimeSet, Mtime: p9.Time{Sec: 1}}))
		x.ok(x.Rename(x.p("f"), x.p("g")))
		after := x.stat("g")
		eq(x, "time of birth", after.Btime, before.Btime)
		eq(x, "generation", after.Gen, before.Gen)
		if after.DataVersion == 0 || time.Since(time.Unix(after.Btime.Sec, 0)) > time.Hour {
			x.Fatalf("data version %d, born %v", after.DataVersion, after.Btime)
		}
	}},
	{"a file's blocks and link count are told", func(x *exam) {
		x.write("f", string(bytes.Repeat([]byte{'x'}, 10000)))
		a := x.stat("f")
		eq(x, "nlink", a.Nlink, 1)
		if a.BlockSize == 0 {
			x.Fatal("no block size")
		}
		if a.QID.Version == 0 {
			x.Fatal("QID version 0 forbids caching")
		}
	}},
}

var xattrCases = []testCase{
	{"extended attributes keep their values", func(x *exam) {
		if x.NoXattr {
			return
		}
		x.write("f", "")
		x.ok(x.Mkdir(x.p("d"), 0o755))
		for _, name := range []string{"f", "d"} {
			big := bytes.Repeat([]byte("v"), 2000)
			x.ok(x.Setxattr(x.p(name), "user.small", []byte("1"), 0))
			x.ok(x.Setxattr(x.p(name), "user.big", big, 0))
			x.ok(x.Setxattr(x.p(name), "user.small", []byte("22"), 0))
			v, err := x.Getxattr(x.p(name), "user.small")
			x.ok(err)
			eq(x, "value", string(v), "22")
			v, err = x.Getxattr(x.p(name), "user.big")
			x.ok(err)
			eq(x, "big value", string(v), string(big))
			eq(x, "names", listed(x, name), 2)
		}
	}},
	{"an empty attribute is not a removed one", func(x *exam) {
		if x.NoXattr {
			return
		}
		x.write("f", "")
		x.ok(x.Setxattr(x.p("f"), "user.empty", nil, 0))
		v, err := x.Getxattr(x.p("f"), "user.empty")
		x.ok(err)
		eq(x, "length", len(v), 0)
		eq(x, "names", listed(x, "f"), 1)
		x.ok(x.Removexattr(x.p("f"), "user.empty"))
		_, err = x.Getxattr(x.p("f"), "user.empty")
		x.fails(err, linux.ENODATA)
		x.fails(x.Removexattr(x.p("f"), "user.empty"), linux.ENODATA)
	}},
	{"creation and replacement of attributes are told apart", func(x *exam) {
		if x.NoXattr {
			return
		}
		x.write("f", "")
		x.fails(x.Setxattr(x.p("f"), "user.a", []byte("v"), linux.XattrReplace), linux.ENODATA)
		x.ok(x.Setxattr(x.p("f"), "user.a", []byte("v"), linux.XattrCreate))
		x.fails(x.Setxattr(x.p("f"), "user.a", []byte("v"), linux.XattrCreate), linux.EEXIST)
	}},
	{"root keeps trusted and security attributes", func(x *exam) {
		if x.NoXattr || x.NoTrusted || x.Unprivileged {
			return
		}
		x.write("f", "")
		caps := []byte{0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		x.ok(x.Setxattr(x.p("f"), "trusted.overlay.opaque", []byte("y"), 0))
		x.ok(x.Setxattr(x.p("f"), "security.capability", caps, 0))
		v, err := x.Getxattr(x.p("f"), "security.capability")
		x.ok(err)
		eq(x, "capability", string(v), string(caps))
		eq(x, "names", listed(x, "f"), 2)
	}},
	{"access control lists are kept", func(x *exam) {
		if x.NoXattr {
			return
		}
		x.ok(x.Mkdir(x.p("d"), 0o750))
		// u::rwx u:1000:r-x g::r-x m::r-x o::---, as Linux stores them.
		acl := []byte{2, 0, 0, 0,
			1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
			16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
		for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
			x.ok(x.Setxattr(x.p("d"), name, acl, 0))
			v, err := x.Getxattr(x.p("d"), name)
			x.ok(err)
			eq(x, name, string(v), string(acl))
		}
		x.ok(x.Removexattr(x.p("d"), "system.posix_acl_default"))
		_, err := x.Getxattr(x.p("d"), "system.posix_acl_default")
		x.fails(err, linux.ENODATA)
		eq(x, "mode", x.stat("d").Mode.Perm(), 0o750)
	}},
	{"attributes of unknown classes are refused", func(x *exam) {
		x.write("f", "")
		x.fails(x.Setxattr(x.p("f"), "nonsense.a", []byte("v"), 0), linux.EOPNOTSUPP)
	}},
	{"attributes follow the file", func(x *exam) {
		if x.NoXattr {
			return
		}
		x.write("f", "")
		x.ok(x.Setxattr(x.p("f"), "user.a", []byte("v"), 0))
		x.ok(x.Rename(x.p("f"), x.p("g")))
		v, err := x.Getxattr(x.p("g"), "user.a")
		x.ok(err)
		eq(x, "value", string(v), "v")
	}},
}

// listed counts the attributes that the suite may have set.
func listed(x *exam, name string) int {
	names, err := x.Listxattr(x.p(name))
	x.ok(err)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "security.selinux" })
	return len(names)
}
