// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"errors"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// A handle on macOS is a descriptor opened for events alone, which asks for
// no permission and opens symbolic links themselves. What the system can only
// do by path goes by the path it tells for the handle, and is checked to have
// reached the same file where that matters.
const handleFlags = unix.O_EVTONLY | unix.O_SYMLINK | unix.O_NONBLOCK | unix.O_CLOEXEC

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
	return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// openHandle returns a handle of one name in a directory.
func openHandle(dfd int, name string) (int, error) {
	return unix.Openat(dfd, name, handleFlags, 0)
}

// handleOf returns a handle of a file that was just made.
func handleOf(dfd, fd int, name string) (int, error) {
	if fd < 0 {
		return openHandle(dfd, name)
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

func statAt(dfd int, name string, st *stat) error {
	var x unix.Stat_t
	err := error(nil)
	if name == "" {
		err = unix.Fstat(dfd, &x)
	} else {
		err = unix.Fstatat(dfd, name, &x, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	st.btime = timeFrom(x.Btim)
	st.id = fileID{dev: uint64(uint32(x.Dev)), ino: x.Ino, birth: st.btime.Sec*1e9 + st.btime.Nsec}
	st.mode = linux.Mode(x.Mode)
	st.uid, st.gid, st.nlink = x.Uid, x.Gid, uint64(x.Nlink)
	st.major, st.minor = unix.Major(uint64(x.Rdev)), unix.Minor(uint64(x.Rdev))
	st.size, st.blocks, st.blockSize = uint64(x.Size), uint64(x.Blocks), uint32(x.Blksize)
	st.atime, st.mtime, st.ctime = timeFrom(x.Atim), timeFrom(x.Mtim), timeFrom(x.Ctim)
	return nil
}

func timeFrom(t unix.Timespec) p9.Time { return p9.Time{Sec: t.Sec, Nsec: t.Nsec} }

func hostFlags(f linux.OpenFlags) int {
	flags := unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW
	flags |= int(f & linux.OAccmode)
	for _, b := range [...]struct {
		guest linux.OpenFlags
		host  int
	}{
		{linux.OAppend, unix.O_APPEND},
		{linux.OTrunc, unix.O_TRUNC},
		{linux.ODsync, unix.O_SYNC},
		{linux.OSync, unix.O_SYNC},
	} {
		if f&b.guest == b.guest {
			flags |= b.host
		}
	}
	return flags
}

// reopen opens the handle's file. It truncates only once it knows that it
// has the right one.
func reopen(h int, f linux.OpenFlags) (int, error) {
	path, err := pathOf(h)
	if err != nil {
		return -1, err
	}
	fd, err := openRetry(unix.AT_FDCWD, path, hostFlags(f&^linux.OTrunc), 0)
	if err != nil {
		return -1, err
	}
	var want, got stat
	if err = errors.Join(statAt(h, "", &want), statAt(fd, "", &got)); err == nil && want.id != got.id {
		err = unix.ESTALE
	}
	if err == nil && f&linux.OTrunc != 0 {
		err = ftruncate(fd, 0)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

func createAt(dfd int, name string, f linux.OpenFlags, mode linux.Mode) (int, error) {
	return openRetry(dfd, name, hostFlags(f)|unix.O_CREAT|unix.O_EXCL, uint32(mode.Perm()))
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

// mknodAt makes empty files, which is what stands for special ones where
// metadata is mapped; the system has no call to make others in a directory.
func mknodAt(dfd int, name string, b birth) error {
	if !b.mode.IsRegular() {
		return unix.ENOTSUP
	}
	fd, err := createAt(dfd, name, linux.OWronly, b.mode)
	if err != nil {
		return err
	}
	return closeFD(fd)
}

// linkAt gives the handle's file another name.
func linkAt(h, dfd int, name string) error {
	path, err := pathOf(h)
	if err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, path, dfd, name, 0)
}

func unlinkAt(dfd int, name string, flags int) error {
	if flags&linux.AtRemovedir != 0 {
		return unix.Unlinkat(dfd, name, unix.AT_REMOVEDIR)
	}
	return unix.Unlinkat(dfd, name, 0)
}

func renameAt(dfd int, name string, ndfd int, newName string) error {
	return unix.Renameat(dfd, name, ndfd, newName)
}

func renameNoreplaceAt(dfd int, name string, ndfd int, newName string) error {
	return unix.RenameatxNp(dfd, name, ndfd, newName, unix.RENAME_EXCL)
}

func exchangeAt(dfd int, name string, ndfd int, newName string) error {
	return unix.RenameatxNp(dfd, name, ndfd, newName, unix.RENAME_SWAP)
}

// tmpfileIn fails: macOS has no files without a name to be linked later.
func tmpfileIn(int, linux.OpenFlags, linux.Mode) (int, error) { return -1, unix.EOPNOTSUPP }

// allocate fails: programs write zeros instead.
func allocate(int, uint32, int64, int64) error { return unix.EOPNOTSUPP }

func readlink(h int) (string, error) {
	path, err := pathOf(h)
	if err != nil {
		return "", err
	}
	buf := make([]byte, linux.PathMax)
	n, err := unix.Readlink(path, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func chown(h, uid, gid int) error { return unix.Fchown(h, uid, gid) }

func chmod(h int, perm linux.Mode) error { return unix.Fchmod(h, uint32(perm)) }

func setTimes(h int, a, m when) error {
	var st stat
	if err := statAt(h, "", &st); err != nil {
		return err
	}
	path, err := pathOf(h)
	if err != nil {
		return err
	}
	ts := []unix.Timespec{a.timespec(st.atime), m.timespec(st.mtime)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func (w when) timespec(old p9.Time) unix.Timespec {
	switch {
	case w.omit:
		return unix.Timespec{Sec: old.Sec, Nsec: old.Nsec}
	case w.now:
		var tv unix.Timeval
		if unix.Gettimeofday(&tv) == nil {
			return unix.Timespec{Sec: tv.Sec, Nsec: int64(tv.Usec) * 1000}
		}
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

// preadNowait is not to be had on macOS.
func preadNowait(int, []byte, int64) (int, error) { return 0, unix.ENOTSUP }

func pwrite(fd int, p []byte, off int64) (n int, err error) {
	err = retry(func() error { n, err = unix.Pwrite(fd, p, off); return err })
	return n, err
}

// fsync makes the disk write, which fsync(2) alone does not on macOS.
func fsync(fd int, _ bool) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	if err == unix.ENOTSUP || err == unix.EINVAL {
		return unix.Fsync(fd)
	}
	return err
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
		Type: 0x01021997, Bsize: x.Bsize, Blocks: x.Blocks, Bfree: x.Bfree, Bavail: x.Bavail,
		Files: x.Files, Ffree: x.Ffree, NameLen: linux.NameMax,
		FSID: uint64(uint32(x.Fsid.Val[0])) | uint64(uint32(x.Fsid.Val[1]))<<32,
	}
	return nil
}
