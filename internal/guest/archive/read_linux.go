// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Read writes a tar of the path to w, entries named below the path's last
// component ("." for one that ends in "/.", and with a slash before all for the
// root itself, as dockerd does). Owners, times, xattrs, hard links within the
// archive and device nodes are kept; sockets are left out, and so is what the
// kernel shows under a directory of p as files, as in /proc.
func (r *Root) Read(w io.Writer, p string) error {
	e, err := r.locate(p)
	if err != nil {
		return err
	}
	defer e.dir.Close()
	name := path.Base(path.Clean("/" + p))
	switch {
	case strings.Trim(p, "/") == "":
		name = ""
	case name == "/", strings.HasSuffix(p, "/."):
		name = "."
	}
	pk := &packer{tw: tar.NewWriter(w), links: map[inode]string{}, asked: name + "/"}
	if err := pk.add(e, name); err != nil {
		return err
	}
	return pk.tw.Close()
}

type inode struct{ dev, ino uint64 }

type packer struct {
	tw *tar.Writer
	// links has the first name of each file with several.
	links map[inode]string
	// asked is the directory that the archive is of, whatever shows it.
	asked string
}

func (pk *packer) add(e entry, name string) error {
	st, err := e.lstat()
	if err != nil {
		return err
	}
	h, err := pk.header(e, name, st)
	if err != nil || h == nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return pk.addFile(e, h)
	case tar.TypeDir:
		return pk.addDir(e, h)
	}
	return pk.tw.WriteHeader(h)
}

// header describes an entry; nil for one that archives do not hold.
func (pk *packer) header(e entry, name string, st unix.Stat_t) (*tar.Header, error) {
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		target, err := e.readlink()
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if err := readXattrs(e, h); err != nil {
		return nil, err
	}
	return pk.hardlink(h, st), nil
}

// hardlink turns the second name of a file into a link to the first.
func (pk *packer) hardlink(h *tar.Header, st unix.Stat_t) *tar.Header {
	if h.Typeflag == tar.TypeDir || st.Nlink < 2 {
		return h
	}
	key := inode{st.Dev, st.Ino}
	first, seen := pk.links[key]
	if !seen {
		pk.links[key] = h.Name
		return h
	}
	h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
	return h
}

const paxXattr = "SCHILY.xattr."

func readXattrs(e entry, h *tar.Header) error {
	p := e.path()
	size, err := unix.Llistxattr(p, nil)
	if err != nil || size == 0 {
		return ignoreXattr(err)
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(p, list); err != nil {
		return ignoreXattr(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:size]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.") {
			continue // overlayfs' own
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			continue // went away, or is not for reading
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = string(value[:n])
	}
	return nil
}

func ignoreXattr(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// addFile writes a regular file at the size its header tells, padded with zeros
// when the file has shrunk meanwhile.
func (pk *packer) addFile(e entry, h *tar.Header) error {
	fd, err := unix.Openat(int(e.dir.Fd()), e.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: h.Name, Err: err}
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	if err := pk.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(pk.tw, io.LimitReader(f, h.Size))
	if err != nil {
		return fmt.Errorf("pack %s: %w", h.Name, err)
	}
	_, err = io.CopyN(pk.tw, zeros{}, h.Size-n)
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func (pk *packer) addDir(e entry, h *tar.Header) error {
	if err := pk.tw.WriteHeader(h); err != nil {
		return err
	}
	dir, err := e.openDir()
	if err != nil {
		return err
	}
	defer dir.Close()
	if h.Name != pk.asked && shownByKernel(dir) {
		return nil
	}
	return pk.addEntries(dir, h.Name)
}

// shownByKernel says whether a directory's entries are no files but what the
// kernel shows of itself: many cannot be read, or have no end (statfs(2)).
func shownByKernel(dir *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return false
	}
	switch st.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
		unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return true
	}
	return false
}

// addEntries adds what is in a directory, under names that start with prefix.
func (pk *packer) addEntries(dir *os.File, prefix string) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	slices.Sort(names)
	for _, n := range names {
		err := pk.add(entry{dir, n}, prefix+n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
	}
	return nil
}
