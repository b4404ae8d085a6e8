// SPDX-License-Identifier: Apache-2.0

package p9client

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Mkdir makes a directory.
func (f *FID) Mkdir(name string, mode linux.Mode, gid uint32) (p9.QID, error) {
	var r p9.Rmkdir
	err := f.c.Call(&p9.Tmkdir{DirFID: f.num, Name: name, Mode: mode, GID: gid}, &r)
	return r.QID, err
}

// Symlink makes a symbolic link.
func (f *FID) Symlink(name, target string, gid uint32) (p9.QID, error) {
	var r p9.Rsymlink
	err := f.c.Call(&p9.Tsymlink{FID: f.num, Name: name, Target: target, GID: gid}, &r)
	return r.QID, err
}

// Mknod makes what mode says.
func (f *FID) Mknod(name string, mode linux.Mode, major, minor, gid uint32) (p9.QID, error) {
	var r p9.Rmknod
	err := f.c.Call(&p9.Tmknod{
		FID: f.num, Name: name, Mode: mode, Major: major, Minor: minor, GID: gid,
	}, &r)
	return r.QID, err
}

// Link gives target another name in f.
func (f *FID) Link(target *FID, name string) error {
	return f.c.Call(&p9.Tlink{DirFID: f.num, FID: target.num, Name: name}, &p9.Rlink{})
}

// Renameat moves a name to another directory.
func (f *FID) Renameat(oldName string, dir *FID, newName string) error {
	return f.c.Call(&p9.Trenameat{
		OldDirFID: f.num, OldName: oldName, NewDirFID: dir.num, NewName: newName,
	}, &p9.Rrenameat{})
}

// Renameat2 is Renameat with the flags of renameat2(2). It is a request beyond
// 9P2000.L.
func (f *FID) Renameat2(oldName string, dir *FID, newName string, flags uint32) error {
	return f.c.Call(&p9.Trenameat2{
		OldDirFID: f.num, OldName: oldName, NewDirFID: dir.num, NewName: newName, Flags: flags,
	}, &p9.Rrenameat2{})
}

// Rename moves the file f.
func (f *FID) Rename(dir *FID, name string) error {
	return f.c.Call(&p9.Trename{FID: f.num, DirFID: dir.num, Name: name}, &p9.Rrename{})
}

// Unlinkat removes a name.
func (f *FID) Unlinkat(name string, flags uint32) error {
	return f.c.Call(&p9.Tunlinkat{DirFID: f.num, Name: name, Flags: flags}, &p9.Runlinkat{})
}

// Lock asks for a byte range and returns the server's status.
func (f *FID) Lock(l p9.Lock, flags uint32) (uint8, error) {
	var r p9.Rlock
	err := f.c.Call(&p9.Tlock{
		FID: f.num, LType: l.Type, Flags: flags, Start: l.Start, Length: l.Length,
		ProcID: l.ProcID, ClientID: l.ClientID,
	}, &r)
	return r.Status, err
}

// Getlock tells of a lock in the way of l.
func (f *FID) Getlock(l p9.Lock) (p9.Lock, error) {
	var r p9.Rgetlock
	err := f.c.Call(&p9.Tgetlock{FID: f.num, Lock: l}, &r)
	return r.Lock, err
}

// Getxattr returns the value of an attribute, or with no name the list of
// all.
func (f *FID) Getxattr(name string) ([]byte, error) {
	x := &FID{c: f.c, num: f.c.newFID()}
	var r p9.Rxattrwalk
	if err := f.c.Call(&p9.Txattrwalk{FID: f.num, NewFID: x.num, Name: name}, &r); err != nil {
		f.c.release(x.num)
		return nil, err
	}
	defer x.Clunk()
	value := make([]byte, r.Size)
	for n := 0; n < len(value); {
		m, err := x.ReadAt(value[n:], int64(n))
		if err != nil || m == 0 {
			return value[:n], err
		}
		n += m
	}
	return value, nil
}

// Setxattr sets an attribute as Linux's client does. Nil with flags
// XattrReplace removes it.
func (f *FID) Setxattr(name string, value []byte, flags uint32) error {
	x, err := f.Walk()
	if err != nil {
		return err
	}
	m := &p9.Txattrcreate{FID: x.num, Name: name, Size: uint64(len(value)), Flags: flags}
	if err := f.c.Call(m, &p9.Rxattrcreate{}); err != nil {
		x.Clunk()
		return err
	}
	for n := 0; n < len(value); {
		w, err := x.WriteAt(value[n:], int64(n))
		if err != nil {
			x.Clunk()
			return err
		}
		n += w
	}
	return x.Clunk()
}

// Removexattr removes an attribute as Linux's client does.
func (f *FID) Removexattr(name string) error {
	return f.Setxattr(name, nil, linux.XattrReplace)
}
