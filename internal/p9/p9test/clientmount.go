// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"path"
	"strings"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
)

// Client makes a Mount of an attached root: every call is the requests that
// Linux's client would send for it with no cache.
func Client(root *p9client.FID, gid uint32) Mount { return &clientMount{root: root, gid: gid} }

type clientMount struct {
	root *p9client.FID
	gid  uint32
}

// walk goes to a path name by name, as Linux does: a walk of several names that
// ends early does not say why.
func (m *clientMount) walk(p string) (*p9client.FID, error) {
	at, err := m.root.Walk()
	if err != nil || p == "" {
		return at, err
	}
	for name := range strings.SplitSeq(p, "/") {
		next, err := at.Walk(name)
		at.Clunk()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// at calls f with the file that p names.
func (m *clientMount) at(p string, f func(*p9client.FID) error) error {
	fid, err := m.walk(p)
	if err != nil {
		return err
	}
	defer fid.Clunk()
	return f(fid)
}

// in calls f with the directory that p is in and p's last name.
func (m *clientMount) in(p string, f func(dir *p9client.FID, name string) error) error {
	dir, name := path.Split(p)
	return m.at(strings.TrimSuffix(dir, "/"), func(d *p9client.FID) error { return f(d, name) })
}

func (m *clientMount) Open(p string, flags linux.OpenFlags, mode linux.Mode) (File, error) {
	if flags&linux.OCreate != 0 {
		dir, name := path.Split(p)
		fid, err := m.walk(strings.TrimSuffix(dir, "/"))
		if err != nil {
			return nil, err
		}
		return opened(fid, fid.Create(name, flags, mode, m.gid))
	}
	fid, err := m.walk(p)
	if err != nil {
		return nil, err
	}
	return opened(fid, fid.Open(flags))
}

func opened(fid *p9client.FID, err error) (File, error) {
	if err != nil {
		fid.Clunk()
		return nil, err
	}
	return clientFile{fid}, nil
}

func (m *clientMount) Mkdir(p string, mode linux.Mode) error {
	return m.in(p, func(d *p9client.FID, name string) error {
		_, err := d.Mkdir(name, mode, m.gid)
		return err
	})
}

func (m *clientMount) Symlink(target, p string) error {
	return m.in(p, func(d *p9client.FID, name string) error {
		_, err := d.Symlink(name, target, m.gid)
		return err
	})
}

func (m *clientMount) Mknod(p string, mode linux.Mode, major, minor uint32) error {
	return m.in(p, func(d *p9client.FID, name string) error {
		_, err := d.Mknod(name, mode, major, minor, m.gid)
		return err
	})
}

func (m *clientMount) Link(oldPath, newPath string) error {
	return m.at(oldPath, func(f *p9client.FID) error {
		return m.in(newPath, func(d *p9client.FID, name string) error { return d.Link(f, name) })
	})
}

func (m *clientMount) Rename(oldPath, newPath string) error {
	return m.in(oldPath, func(from *p9client.FID, oldName string) error {
		return m.in(newPath, func(to *p9client.FID, newName string) error {
			return from.Renameat(oldName, to, newName)
		})
	})
}

func (m *clientMount) Rename2(oldPath, newPath string, flags uint32) error {
	return m.in(oldPath, func(from *p9client.FID, oldName string) error {
		return m.in(newPath, func(to *p9client.FID, newName string) error {
			return from.Renameat2(oldName, to, newName, flags)
		})
	})
}

func (m *clientMount) Unlink(p string) error {
	return m.in(p, func(d *p9client.FID, name string) error { return d.Unlinkat(name, 0) })
}

func (m *clientMount) Rmdir(p string) error {
	return m.in(p, func(d *p9client.FID, name string) error {
		return d.Unlinkat(name, linux.AtRemovedir)
	})
}

func (m *clientMount) Readlink(p string) (target string, err error) {
	err = m.at(p, func(f *p9client.FID) error { target, err = f.Readlink(); return err })
	return target, err
}

func (m *clientMount) Stat(p string) (a p9.Attr, err error) {
	err = m.at(p, func(f *p9client.FID) error { a, err = f.Getattr(p9.AttrAll); return err })
	return a, err
}

func (m *clientMount) Setattr(p string, s p9.SetAttr) error {
	return m.at(p, func(f *p9client.FID) error { return f.Setattr(s) })
}

func (m *clientMount) Readdir(p string) (list []p9.Dirent, err error) {
	err = m.at(p, func(f *p9client.FID) error {
		if err := f.Open(linux.ORdonly | linux.ODirectory); err != nil {
			return err
		}
		list, err = readAll(f)
		return err
	})
	return list, err
}

func readAll(f *p9client.FID) ([]p9.Dirent, error) {
	var all []p9.Dirent
	for off := uint64(0); ; {
		part, err := f.Readdir(off, 8000)
		if err != nil || len(part) == 0 {
			return all, err
		}
		for _, d := range part {
			if d.Name != "." && d.Name != ".." {
				all = append(all, d)
			}
			off = d.Offset
		}
	}
}

func (m *clientMount) Statfs(p string) (s p9.Statfs, err error) {
	err = m.at(p, func(f *p9client.FID) error { s, err = f.Statfs(); return err })
	return s, err
}

func (m *clientMount) Getxattr(p, name string) (v []byte, err error) {
	err = m.at(p, func(f *p9client.FID) error { v, err = f.Getxattr(name); return err })
	return v, err
}

func (m *clientMount) Listxattr(p string) ([]string, error) {
	list, err := m.Getxattr(p, "")
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == 0 }), err
}

func (m *clientMount) Setxattr(p, name string, value []byte, flags uint32) error {
	return m.at(p, func(f *p9client.FID) error { return f.Setxattr(name, value, flags) })
}

func (m *clientMount) Removexattr(p, name string) error {
	return m.at(p, func(f *p9client.FID) error { return f.Removexattr(name) })
}

type clientFile struct{ fid *p9client.FID }

func (f clientFile) ReadAt(p []byte, off int64) (int, error)  { return f.fid.ReadAt(p, off) }
func (f clientFile) WriteAt(p []byte, off int64) (int, error) { return f.fid.WriteAt(p, off) }
func (f clientFile) Stat() (p9.Attr, error)                   { return f.fid.Getattr(p9.AttrAll) }
func (f clientFile) Setattr(s p9.SetAttr) error               { return f.fid.Setattr(s) }
func (f clientFile) Getxattr(name string) ([]byte, error)     { return f.fid.Getxattr(name) }
func (f clientFile) Sync(datasync bool) error                 { return f.fid.Fsync(datasync) }
func (f clientFile) Close() error                             { return f.fid.Clunk() }

func (f clientFile) Setxattr(name string, value []byte, flags uint32) error {
	return f.fid.Setxattr(name, value, flags)
}

func (f clientFile) Lock(typ uint8, start, length uint64) (uint8, error) {
	return f.fid.Lock(p9.Lock{Type: typ, Start: start, Length: length, ClientID: "test" + p9.LockClientOFD}, 0)
}
