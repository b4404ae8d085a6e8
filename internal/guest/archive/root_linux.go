// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root is an open root file system. Close it after use.
type Root struct{ dir *os.File }

// OpenRoot opens the directory at a path of the guest's as a root.
func OpenRoot(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open root file system: %w", err)
	}
	return &Root{f}, nil
}

// Close releases the root.
func (r *Root) Close() error { return r.dir.Close() }

// open resolves a path in the root, following symlinks unless flags has
// O_NOFOLLOW.
func (r *Root) open(p string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(r.dir.Fd()), p, &how)
		if err == unix.EAGAIN || err == unix.EINTR { // the tree changed under the walk
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: p, Err: err}
		}
		return os.NewFile(uintptr(fd), p), nil
	}
}

// entry is a name in an open directory.
type entry struct {
	dir  *os.File
	name string
}

// locate resolves all of a path but its last component. A path that ends in a
// slash or a dot names the directory itself.
func (r *Root) locate(p string) (entry, error) {
	clean := path.Clean("/" + p)
	if clean == "/" || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") {
		dir, err := r.open(clean, unix.O_PATH|unix.O_DIRECTORY)
		return entry{dir, "."}, err
	}
	dir, err := r.open(path.Dir(clean), unix.O_PATH|unix.O_DIRECTORY)
	return entry{dir, path.Base(clean)}, err
}

// openDir opens a directory for its entries.
func (e entry) openDir() (*os.File, error) {
	fd, err := unix.Openat(int(e.dir.Fd()), e.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: e.name, Err: err}
	}
	return os.NewFile(uintptr(fd), e.name), nil
}

func (e entry) lstat() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(e.dir.Fd()), e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return st, &fs.PathError{Op: "stat", Path: e.name, Err: err}
	}
	return st, nil
}

func (e entry) readlink() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(e.dir.Fd()), e.name, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: e.name, Err: err}
	}
	return string(buf[:n]), nil
}

// path names the entry for calls that take paths and do not follow the last
// component.
func (e entry) path() string {
	return "/proc/self/fd/" + strconv.Itoa(int(e.dir.Fd())) + "/" + e.name
}

// Info is what Stat tells of a path.
type Info struct {
	// Name is the path's last component.
	Name string
	// Size is in bytes.
	Size int64
	// Mode is Go's.
	Mode fs.FileMode
	// ModTime is the time of the last change.
	ModTime time.Time
	// LinkTarget is where a symlink leads, empty for others.
	LinkTarget string
}

// Stat describes a path; a symlink at its end is not followed.
func (r *Root) Stat(p string) (Info, error) {
	e, err := r.locate(p)
	if err != nil {
		return Info{}, err
	}
	defer e.dir.Close()
	st, err := e.lstat()
	if err != nil {
		return Info{}, err
	}
	info := Info{
		Name: path.Base(path.Clean("/" + p)), Size: st.Size, Mode: goMode(st.Mode),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	if info.Mode&fs.ModeSymlink != 0 {
		if info.LinkTarget, err = e.readlink(); err != nil {
			return Info{}, err
		}
		if !path.IsAbs(info.LinkTarget) {
			info.LinkTarget = path.Join(path.Dir(path.Clean("/"+p)), info.LinkTarget)
		}
	}
	return info, nil
}

// goMode translates a mode of stat(2).
func goMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	}
	for _, b := range []struct {
		bit  uint32
		mode fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if m&b.bit != 0 {
			mode |= b.mode
		}
	}
	return mode
}
