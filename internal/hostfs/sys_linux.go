// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// A handle on Linux is an O_PATH descriptor: it names the file, symbolic
// links and devices included, without opening it.
const handleFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// retry repeats a call that a signal interrupted.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// openRoot returns a handle of a host path, symbolic links followed.
func openRoot(path string) (int, error) {
	return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// openHandle returns a handle of one name in a directory. openat2 refuses
// everything that could lead out of it; before Linux 5.6 that is left to
// O_NOFOLLOW, which for a single name is as good.
func openHandle(dfd int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   handleFlags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(dfd, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS, unix.EPERM:
			return unix.Openat(dfd, name, handleFlags, 0)
		}
		return fd, err
	}
}

// handleOf returns a handle of a file that was just made: of fd, or if that
// is -1 of what name is in dfd.
func handleOf(dfd, fd int, name string) (int, error) {
	if fd < 0 {
		return openHandle(dfd, name)
	}
	return unix.Open(procPath(fd, ""), unix.O_PATH|unix.O_CLOEXEC, 0)
}

// procPath is a path to a handle's file, or to a name in it. That is not a
// path through the tree: the kernel goes straight to the handle.
func procPath(fd int, name string) string {
	b := append(make([]byte, 0, 40), "/proc/self/fd/"...)
	b = strconv.AppendInt(b, int64(fd), 10)
	if name != "" {
		b = append(append(b, '/'), name...)
	}
	return string(b)
}

func statAt(dfd int, name string, st *stat) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var x unix.Statx_t
	if err := unix.Statx(dfd, name, flags, statMask, &x); err != nil {
		return err
	}
	st.id = fileID{dev: unix.Mkdev(x.Dev_major, x.Dev_minor), ino: x.Ino}
	if x.Mask&unix.STATX_BTIME != 0 {
		st.btime = timeFrom(x.Btime)
		st.id.birth = st.btime.Sec*1e9 + st.btime.Nsec
	}
	st.mode = linux.Mode(x.Mode)
	st.uid, st.gid, st.nlink = x.Uid, x.Gid, uint64(x.Nlink)
	st.major, st.minor = x.Rdev_major, x.Rdev_minor
	st.size, st.blocks, st.blockSize = x.Size, x.Blocks, x.Blksize
	st.atime, st.mtime, st.ctime = timeFrom(x.Atime), timeFrom(x.Mtime), timeFrom(x.Ctime)
	return nil
}

func timeFrom(t unix.StatxTimestamp) p9.Time { return p9.Time{Sec: t.Sec, Nsec: int64(t.Nsec)} }

// passedOn are the open flags that the host gets. O_DIRECT is the guest's
// own affair: its cache is what it wants to go round.
const passedOn = linux.OAccmode | linux.OAppend | linux.OTrunc | linux.ODsync | linux.OSync | linux.ONoatime

func hostFlags(f linux.OpenFlags) int {
	flags := unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	f &= passedOn
	flags |= int(f & linux.OAccmode)
	for _, b := range [...]struct {
		guest linux.OpenFlags
		host  int
	}{
		{linux.OAppend, unix.O_APPEND},
		{linux.OTrunc, unix.O_TRUNC},
		{linux.ODsync, unix.O_DSYNC},
		{linux.OSync, unix.O_SYNC},
		{linux.ONoatime, unix.O_NOATIME},
	} {
		if f&b.guest == b.guest {
			flags |= b.host
		}
	}
	return flags
}

// reopen opens the handle's file.
func reopen(h int, f linux.OpenFlags) (int, error) {
	fd, err := openRetry(unix.AT_FDCWD, procPath(h, ""), hostFlags(f), 0)
	if err == unix.EPERM && f&linux.ONoatime != 0 {
		return openRetry(unix.AT_FDCWD, procPath(h, ""), hostFlags(f&^linux.ONoatime), 0)
	}
	return fd, err
}

func createAt(dfd int, name string, f linux.OpenFlags, mode linux.Mode) (int, error) {
	flags := hostFlags(f&^linux.ONoatime) | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	return openRetry(dfd, name, flags, uint32(mode.Perm()))
}

func openRetry(dfd int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dfd, name, flags, mode)
		return err
	})
	return fd, err
}

func mkdirAt(dfd int, name string, mode linux.Mode) error {
	return unix.Mkdirat(dfd, name, uint32(mode.Perm()))
}

func symlinkAt(target string, dfd int, name string) error { return unix.Symlinkat(target, dfd, name) }

func mknodAt(dfd int, name string, b birth) error {
	dev := int(unix.Mkdev(b.major, b.minor))
	if !b.mode.IsSpecial() {
		dev = 0
	}
	return unix.Mknodat(dfd, name, uint32(b.mode), dev)
}

// linkAt gives the handle's file another name.
func linkAt(h, dfd int, name string) error {
	return unix.Linkat(unix.AT_FDCWD, procPath(h, ""), dfd, name, unix.AT_SYMLINK_FOLLOW)
}

func unlinkAt(dfd int, name string, flags int) error { return unix.Unlinkat(dfd, name, flags) }

func renameAt(dfd int, name string, ndfd int, newName string) error {
	return unix.Renameat(dfd, name, ndfd, newName)
}

func renameNoreplaceAt(dfd int, name string, ndfd int, newName string) error {
	return unix.Renameat2(dfd, name, ndfd, newName, unix.RENAME_NOREPLACE)
}

func exchangeAt(dfd int, name string, ndfd int, newName string) error {
	return unix.Renameat2(dfd, name, ndfd, newName, unix.RENAME_EXCHANGE)
}

// tmpfileIn opens a new file without a name.
func tmpfileIn(dfd int, f linux.OpenFlags, mode linux.Mode) (int, error) {
	flags := hostFlags(f&^(linux.ONoatime|linux.OTrunc)) | unix.O_TMPFILE
	return openRetry(unix.AT_FDCWD, procPath(dfd, ""), flags, uint32(mode.Perm()))
}

// allocate is fallocate(2), whose modes on Linux are the guest's.
func allocate(fd int, mode uint32, off, n int64) error {
	return retry(func() error { return unix.Fallocate(fd, mode, off, n) })
}

func readlink(h int) (string, error) {
	buf := make([]byte, linux.PathMax)
	n, err := unix.Readlinkat(h, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func chown(h, uid, gid int) error { return unix.Fchownat(h, "", uid, gid, unix.AT_EMPTY_PATH) }

func chmod(h int, perm linux.Mode) error {
	return unix.Fchmodat(unix.AT_FDCWD, procPath(h, ""), uint32(perm), 0)
}

func setTimes(h int, a, m when) error {
	ts := []unix.Timespec{a.timespec(), m.timespec()}
	err := unix.UtimesNanoAt(h, "", ts, unix.AT_EMPTY_PATH)
	if err == unix.EINVAL || err == unix.ENOENT {
		return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(h, ""), ts, 0)
	}
	return err
}

func (w when) timespec() unix.Timespec {
	switch {
	case w.omit:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case w.now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: w.at.Sec, Nsec: w.at.Nsec}
}

func ftruncate(fd int, size int64) error {
	return retry(func() error { return unix.Ftruncate(fd, size) })
}

func pread(fd int, p []byte, off int64) (n int, err error) {
	err = retry(func() error { n, err = unix.Pread(fd, p, off); return err })
	return n, err
}

// preadNowait is pread that fails where it would have to wait for the disk.
func preadNowait(fd int, p []byte, off int64) (n int, err error) {
	err = retry(func() error {
		n, err = unix.Preadv2(fd, [][]byte{p}, off, unix.RWF_NOWAIT)
		return err
	})
	return n, err
}

func pwrite(fd int, p []byte, off int64) (n int, err error) {
	err = retry(func() error { n, err = unix.Pwrite(fd, p, off); return err })
	return n, err
}

func fsync(fd int, datasync bool) error {
	if datasync {
		return retry(func() error { return unix.Fdatasync(fd) })
	}
	return retry(func() error { return unix.Fsync(fd) })
}

func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	return nil
}

func statfs(h int, s *p9.Statfs) error {
	var x unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(h, &x) }); err != nil {
		return err
	}
	*s = p9.Statfs{
		Type: uint32(x.Type), Bsize: uint32(x.Bsize),
		Blocks: x.Blocks, Bfree: x.Bfree, Bavail: x.Bavail,
		Files: x.Files, Ffree: x.Ffree, NameLen: uint32(x.Namelen),
		FSID: uint64(uint32(x.Fsid.Val[0])) | uint64(uint32(x.Fsid.Val[1]))<<32,
	}
	return nil
}
