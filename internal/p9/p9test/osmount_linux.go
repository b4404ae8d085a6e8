// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// OS makes a Mount of a directory of this system. It clears the process's
// umask.
func OS(dir string) Mount {
	unix.Umask(0)
	return osMount(dir)
}

type osMount string

func (m osMount) path(p string) string { return strings.TrimSuffix(string(m)+"/"+p, "/") }

// errno makes errors comparable with the guest's.
func errno(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return linux.Errno(e).Err()
	}
	return err
}

func (m osMount) Open(p string, flags linux.OpenFlags, mode linux.Mode) (File, error) {
	fd, err := unix.Open(m.path(p), int(flags)|unix.O_CLOEXEC, uint32(mode))
	if err != nil {
		return nil, errno(err)
	}
	return osFile(fd), nil
}

func (m osMount) Mkdir(p string, mode linux.Mode) error {
	return errno(unix.Mkdir(m.path(p), uint32(mode)))
}

func (m osMount) Symlink(target, p string) error { return errno(unix.Symlink(target, m.path(p))) }

func (m osMount) Mknod(p string, mode linux.Mode, major, minor uint32) error {
	return errno(unix.Mknod(m.path(p), uint32(mode), int(unix.Mkdev(major, minor))))
}

func (m osMount) Link(oldPath, newPath string) error {
	return errno(unix.Link(m.path(oldPath), m.path(newPath)))
}

func (m osMount) Rename(oldPath, newPath string) error {
	return errno(unix.Rename(m.path(oldPath), m.path(newPath)))
}

func (m osMount) Rename2(oldPath, newPath string, flags uint32) error {
	return errno(unix.Renameat2(unix.AT_FDCWD, m.path(oldPath), unix.AT_FDCWD, m.path(newPath), uint(flags)))
}

func (m osMount) Unlink(p string) error { return errno(unix.Unlink(m.path(p))) }

func (m osMount) Rmdir(p string) error { return errno(unix.Rmdir(m.path(p))) }

func (m osMount) Readlink(p string) (string, error) {
	buf := make([]byte, linux.PathMax)
	n, err := unix.Readlink(m.path(p), buf)
	return string(buf[:max(n, 0)]), errno(err)
}

func (m osMount) Stat(p string) (p9.Attr, error) {
	var st unix.Stat_t
	err := unix.Lstat(m.path(p), &st)
	return attrOf(&st), errno(err)
}

func attrOf(st *unix.Stat_t) p9.Attr {
	dev := uint64(unix.Minor(st.Rdev)&0xff | unix.Major(st.Rdev)<<8 | unix.Minor(st.Rdev)&^0xff<<12)
	return p9.Attr{
		QID:  p9.QID{Type: p9.QIDType(linux.Mode(st.Mode)), Version: 1, Path: st.Ino},
		Mode: linux.Mode(st.Mode), UID: st.Uid, GID: st.Gid, Nlink: uint64(st.Nlink), Rdev: dev,
		Size: uint64(st.Size), BlockSize: uint64(st.Blksize), Blocks: uint64(st.Blocks),
		Atime: p9.Time{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec},
		Mtime: p9.Time{Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec},
		Ctime: p9.Time{Sec: st.Ctim.Sec, Nsec: st.Ctim.Nsec},
	}
}

func (m osMount) Setattr(p string, s p9.SetAttr) error {
	path := m.path(p)
	return setattr(s, setters{
		truncate: func(n int64) error { return unix.Truncate(path, n) },
		chown:    func(u, g int) error { return unix.Lchown(path, u, g) },
		chmod:    func(mode uint32) error { return chmodLink(path, mode) },
		times: func(ts []unix.Timespec) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
		},
	})
}

// chmodLink is chmod(2) that refuses a symbolic link instead of following it.
func chmodLink(path string, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && linux.Mode(st.Mode).IsSymlink() {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod(path, mode)
}

// setters are the calls that a p9.SetAttr comes down to.
type setters struct {
	truncate func(int64) error
	chown    func(uid, gid int) error
	chmod    func(uint32) error
	times    func([]unix.Timespec) error
}

func setattr(s p9.SetAttr, do setters) error {
	var err error
	if s.Valid&p9.SetSize != 0 {
		err = do.truncate(int64(s.Size))
	}
	if err == nil && s.Valid&(p9.SetUID|p9.SetGID) != 0 {
		uid, gid := -1, -1
		if s.Valid&p9.SetUID != 0 {
			uid = int(s.UID)
		}
		if s.Valid&p9.SetGID != 0 {
			gid = int(s.GID)
		}
		err = do.chown(uid, gid)
	}
	if err == nil && s.Valid&p9.SetMode != 0 {
		err = do.chmod(uint32(s.Mode))
	}
	if err == nil && s.Valid&(p9.SetAtime|p9.SetMtime) != 0 {
		err = do.times([]unix.Timespec{
			timespec(s.Valid&p9.SetAtime, s.Valid&p9.SetAtimeSet, s.Atime),
			timespec(s.Valid&p9.SetMtime, s.Valid&p9.SetMtimeSet, s.Mtime),
		})
	}
	return errno(err)
}

func timespec(wanted, set uint32, t p9.Time) unix.Timespec {
	switch {
	case wanted == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case set == 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: t.Sec, Nsec: t.Nsec}
}

func (m osMount) Readdir(p string) ([]p9.Dirent, error) {
	list, err := os.ReadDir(m.path(p))
	if err != nil {
		return nil, errno(err)
	}
	var all []p9.Dirent
	for _, e := range list {
		var st unix.Stat_t
		if err := unix.Lstat(m.path(p)+"/"+e.Name(), &st); err != nil {
			return nil, errno(err)
		}
		all = append(all, p9.Dirent{
			QID: attrOf(&st).QID, Type: linux.Mode(st.Mode).DirentType(), Name: e.Name(),
		})
	}
	return all, nil
}

func (m osMount) Statfs(p string) (p9.Statfs, error) {
	var st unix.Statfs_t
	err := unix.Statfs(m.path(p), &st)
	return p9.Statfs{Bsize: uint32(st.Bsize), Blocks: st.Blocks, NameLen: uint32(st.Namelen)}, errno(err)
}

func (m osMount) Getxattr(p, name string) ([]byte, error) {
	buf := make([]byte, linux.XattrSizeMax)
	n, err := unix.Lgetxattr(m.path(p), name, buf)
	return buf[:max(n, 0)], errno(err)
}

func (m osMount) Listxattr(p string) ([]string, error) {
	buf := make([]byte, linux.XattrSizeMax)
	n, err := unix.Llistxattr(m.path(p), buf)
	return strings.FieldsFunc(string(buf[:max(n, 0)]), func(r rune) bool { return r == 0 }), errno(err)
}

func (m osMount) Setxattr(p, name string, value []byte, flags uint32) error {
	return errno(unix.Lsetxattr(m.path(p), name, value, int(flags)))
}

func (m osMount) Removexattr(p, name string) error {
	return errno(unix.Lremovexattr(m.path(p), name))
}

type osFile int

func (f osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(int(f), p, off)
	return max(n, 0), errno(err)
}

func (f osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := unix.Pwrite(int(f), p, off)
	return max(n, 0), errno(err)
}

func (f osFile) Stat() (p9.Attr, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f), &st)
	return attrOf(&st), errno(err)
}

func (f osFile) Setattr(s p9.SetAttr) error {
	fd := int(f)
	return setattr(s, setters{
		truncate: func(n int64) error { return unix.Ftruncate(fd, n) },
		chown:    func(u, g int) error { return unix.Fchown(fd, u, g) },
		chmod:    func(mode uint32) error { return unix.Fchmod(fd, mode) },
		times: func(ts []unix.Timespec) error {
			return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
		},
	})
}

func (f osFile) Setxattr(name string, value []byte, flags uint32) error {
	return errno(unix.Fsetxattr(int(f), name, value, int(flags)))
}

func (f osFile) Getxattr(name string) ([]byte, error) {
	buf := make([]byte, linux.XattrSizeMax)
	n, err := unix.Fgetxattr(int(f), name, buf)
	return buf[:max(n, 0)], errno(err)
}

func (f osFile) Sync(datasync bool) error {
	if datasync {
		return errno(unix.Fdatasync(int(f)))
	}
	return errno(unix.Fsync(int(f)))
}

func (f osFile) Lock(typ uint8, start, length uint64) (uint8, error) {
	l := unix.Flock_t{
		Type:  map[uint8]int16{p9.LockRead: unix.F_RDLCK, p9.LockWrite: unix.F_WRLCK, p9.LockUnlock: unix.F_UNLCK}[typ],
		Start: int64(start), Len: int64(length),
	}
	err := unix.FcntlFlock(uintptr(f), unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) {
		return p9.LockBlocked, nil
	}
	return p9.LockSuccess, errno(err)
}

func (f osFile) Close() error { return errno(unix.Close(int(f))) }
