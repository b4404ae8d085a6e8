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
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// WriteOptions say how an archive is unpacked.
type WriteOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else or
	// the reverse.
	NoOverwriteDirNonDir bool
	// CopyUIDGID keeps the owners of the archive; else everything belongs to
	// root.
	CopyUIDGID bool
	// Top gives the directory unpacked into the attributes that the archive has
	// for it.
	Top bool
}

// Write unpacks the tar in src into the directory at p.
func (r *Root) Write(src io.Reader, p string, opts WriteOptions) error {
	dir, err := r.open(path.Clean("/"+p), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	dir.Close()
	u := &unpacker{root: r, base: path.Clean("/" + p), opts: opts}
	tr := tar.NewReader(src)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return fmt.Errorf("read archive: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if err := u.entry(h, tr); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

type unpacker struct {
	root *Root
	base string
	opts WriteOptions
	// dirs are set their times last: unpacking into them changes those.
	dirs []*tar.Header
}

// place returns where an archive's name is to be, below base.
func (u *unpacker) place(name string) string { return path.Join(u.base, path.Clean("/"+name)) }

func (u *unpacker) entry(h *tar.Header, data io.Reader) error {
	at := u.place(h.Name)
	if at == u.base {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("the archive's top is no directory: %w", errdefs.ErrInvalidArgument)
		}
		if !u.opts.Top {
			return nil // its attributes are the destination's own
		}
		return u.top(h)
	}
	parent, err := u.parent(path.Dir(at))
	if err != nil {
		return err
	}
	defer parent.Close()
	e := entry{parent, path.Base(at)}
	if err := u.clear(e, h); err != nil {
		return err
	}
	if err := u.make(e, h, data); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, h)
	}
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	return u.attributes(e, h)
}

func (u *unpacker) top(h *tar.Header) error {
	dir, err := u.root.open(u.base, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	return u.attributes(entry{dir, "."}, h)
}

// parent opens a directory, making what is missing of it: an archive need not
// hold the directories of its files.
func (u *unpacker) parent(p string) (*os.File, error) {
	dir, err := u.root.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, fs.ErrNotExist) || p == "/" {
		return dir, err
	}
	above, err := u.parent(path.Dir(p))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	if err := unix.Mkdirat(int(above.Fd()), path.Base(p), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mkdir", Path: p, Err: err}
	}
	return u.root.open(p, unix.O_PATH|unix.O_DIRECTORY)
}

// clear removes what stands in the way of an entry; a directory stays for a
// directory.
func (u *unpacker) clear(e entry, h *tar.Header) error {
	st, err := e.lstat()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir, wantDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case isDir && wantDir:
		return nil
	case isDir != wantDir && u.opts.NoOverwriteDirNonDir && isDir:
		return fmt.Errorf("cannot overwrite directory with non-directory: %w", errdefs.ErrInvalidArgument)
	case isDir != wantDir && u.opts.NoOverwriteDirNonDir:
		return fmt.Errorf("cannot overwrite non-directory with directory: %w", errdefs.ErrInvalidArgument)
	case isDir:
		return removeTree(e)
	}
	return unix.Unlinkat(int(e.dir.Fd()), e.name, 0)
}

// removeTree removes a directory with all in it, following nothing.
func removeTree(e entry) error {
	dir, err := e.openDir()
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		sub := entry{dir, n}
		err := unix.Unlinkat(int(dir.Fd()), n, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
			err = removeTree(sub)
		}
		if err != nil {
			return err
		}
	}
	return unix.Unlinkat(int(e.dir.Fd()), e.name, unix.AT_REMOVEDIR)
}

func (u *unpacker) make(e entry, h *tar.Header, data io.Reader) error {
	dir, mode := int(e.dir.Fd()), uint32(h.Mode&0o7777)
	switch h.Typeflag {
	case tar.TypeReg:
		return makeFile(e, data)
	case tar.TypeDir:
		if err := unix.Mkdirat(dir, e.name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, dir, e.name)
	case tar.TypeLink:
		return u.link(e, u.place(h.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		return unix.Mknodat(dir, e.name, kind|mode, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeFifo:
		return unix.Mknodat(dir, e.name, unix.S_IFIFO|mode, 0)
	}
	return fmt.Errorf("entry of type %q: %w", h.Typeflag, errdefs.ErrInvalidArgument)
}

func makeFile(e entry, data io.Reader) error {
	fd, err := unix.Openat(int(e.dir.Fd()), e.name,
		unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), e.name)
	_, err = io.Copy(f, data)
	return errors.Join(err, f.Close())
}

func (u *unpacker) link(e entry, target string) error {
	dir, err := u.root.open(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Linkat(int(dir.Fd()), path.Base(target), int(e.dir.Fd()), e.name, 0)
}

// attributes sets owner, mode, xattrs and time; the owner first, because a
// change of it clears the set-id bits and capabilities.
func (u *unpacker) attributes(e entry, h *tar.Header) error {
	dir, uid, gid := int(e.dir.Fd()), 0, 0
	if u.opts.CopyUIDGID {
		uid, gid = h.Uid, h.Gid
	}
	if err := unix.Fchownat(dir, e.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(dir, e.name, uint32(h.Mode&0o7777), 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok {
			continue
		}
		err := unix.Lsetxattr(e.path(), name, []byte(v), 0)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return setTime(e, h)
}

func setTime(e entry, h *tar.Header) error {
	t, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	times := []unix.Timespec{t, t}
	if err := unix.UtimesNanoAt(int(e.dir.Fd()), e.name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// finish sets the directories' times, the deepest last made first.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		at := u.place(u.dirs[i].Name)
		parent, err := u.root.open(path.Dir(at), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = setTime(entry{parent, path.Base(at)}, u.dirs[i])
		parent.Close()
		if err != nil {
			return fmt.Errorf("unpack %q: %w", u.dirs[i].Name, err)
		}
	}
	return nil
}
