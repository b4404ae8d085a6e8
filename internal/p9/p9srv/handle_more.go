// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// The requests of this file are beyond 9P2000.L. A client learns that they are
// taken by the answer to p9.AttrMore.

// lookup makes NewFID refer to what a directory has under a name.
func (c *conn) lookup(m *p9.Tlookup) (p9.Message, linux.Errno) {
	f, dir, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	r := &c.quick.lookup
	node, e := find(dir, m.Name, m.Mask, &r.Attr)
	if e != 0 {
		return nil, e
	}
	return r, c.insert(m.NewFID, f.uid, node)
}

// findTries bounds how often a file that loses its name to another between its
// being found and being asked about is looked for anew.
const findTries = 20

// find returns what a directory has under a name, with its attributes.
func find(dir Node, name string, mask uint64, a *p9.Attr) (Node, linux.Errno) {
	for try := 1; ; try++ {
		node, e := step(dir, name)
		if e != 0 {
			return nil, e
		}
		if e = attributes(node, mask, a); e == 0 {
			return node, 0
		}
		node.Release()
		if e != linux.ENOENT && e != linux.ESTALE || try == findTries {
			return nil, e
		}
	}
}

// openat makes NewFID refer to the same file, opened.
func (c *conn) openat(m *p9.Topenat) (p9.Message, linux.Errno) {
	f, at, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	if e := c.fids.room(m.NewFID); e != 0 {
		return nil, e
	}
	node := at.Clone()
	file, e := openNode(node, m.Flags)
	if e != 0 {
		node.Release()
		return nil, e
	}
	r := &p9.Ropenat{QID: openQID(node, file)}
	return r, c.insertOpen(m.NewFID, f.uid, node, file, m.Flags)
}

// opendir is openat for a directory, whose first entries are read at once.
func (c *conn) opendir(m *p9.Topendir) (p9.Message, linux.Errno) {
	f, dir, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	if e := c.fids.room(m.NewFID); e != 0 {
		return nil, e
	}
	node := dir.Clone()
	file, e := openNode(node, m.Flags|linux.ODirectory)
	if e != 0 {
		node.Release()
		return nil, e
	}
	data, e := entries(file, 0, min(m.Count, c.msize-p9.OpendirHeaderSize))
	if e != 0 {
		return nil, abandonOpen(node, file, e)
	}
	r := &p9.Ropendir{QID: openQID(node, file), Data: data}
	return r, c.insertOpen(m.NewFID, f.uid, node, file, m.Flags)
}

// createat makes NewFID refer to a file that it makes and opens.
func (c *conn) createat(m *p9.Tcreateat) (p9.Message, linux.Errno) {
	f, dir, e := c.dir(m.DirFID, m.Name)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	if e := c.fids.room(m.NewFID); e != 0 {
		return nil, e
	}
	node, file, e := dir.Create(m.Name, m.Flags, m.Mode.Perm(), Owner{f.uid, m.GID})
	if e != 0 {
		return nil, e
	}
	r := &p9.Rcreateat{Opened: openQID(node, file)}
	if e := attributes(node, m.Mask, &r.Attr); e != 0 {
		return nil, abandonOpen(node, file, e)
	}
	return r, c.insertOpen(m.NewFID, f.uid, node, file, m.Flags)
}

// tmpfile is createat for a file without a name.
func (c *conn) tmpfile(m *p9.Ttmpfile) (p9.Message, linux.Errno) {
	f, dir, e := c.node(m.DirFID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	if e := c.fids.room(m.NewFID); e != 0 {
		return nil, e
	}
	switch {
	case dir.QID().Type&p9.QTDir == 0:
		return nil, linux.ENOTDIR
	case !m.Flags.Writes():
		return nil, linux.EINVAL
	}
	node, file, e := dir.Tmpfile(m.Flags, m.Mode.Perm(), Owner{f.uid, m.GID})
	if e != 0 {
		return nil, e
	}
	r := &p9.Rtmpfile{Opened: openQID(node, file)}
	if e := attributes(node, m.Mask, &r.Attr); e != 0 {
		return nil, abandonOpen(node, file, e)
	}
	return r, c.insertOpen(m.NewFID, f.uid, node, file, m.Flags)
}

// insertOpen makes num refer to an open file, or closes it.
func (c *conn) insertOpen(num, uid uint32, node Node, file File, flags linux.OpenFlags) linux.Errno {
	f := &fid{num: num, uid: uid, node: node, file: file, flags: flags}
	f.refs.Store(1)
	if e := c.fids.add(f); e != 0 {
		return abandonOpen(node, file, e)
	}
	return 0
}

// abandonOpen gives up what was opened in vain and returns why.
func abandonOpen(node Node, file File, why linux.Errno) linux.Errno {
	file.Close()
	node.Release()
	return why
}

func (c *conn) renameat2(m *p9.Trenameat2) linux.Errno {
	from, dir, e := c.dir(m.OldDirFID, m.OldName)
	if e != 0 {
		return e
	}
	defer from.put()
	to, newDir, e := c.dir(m.NewDirFID, m.NewName)
	if e != 0 {
		return e
	}
	defer to.put()
	if m.Flags > linux.RenameExchange { // both at once make no sense
		return linux.EINVAL
	}
	return dir.Renameat(m.OldName, newDir, m.NewName, m.Flags)
}

func (c *conn) allocate(m *p9.Tallocate) linux.Errno {
	f, file, flags, e := c.open1(m.FID)
	if e != 0 {
		return e
	}
	defer f.put()
	const modes = linux.FallocKeepSize | linux.FallocPunchHole | linux.FallocZeroRange
	switch {
	case !flags.Writes():
		return linux.EBADF
	case m.Mode&^modes != 0:
		return linux.EOPNOTSUPP
	case m.Length == 0 || m.Offset > 1<<63-1 || m.Length > 1<<63-1:
		return linux.EINVAL
	case m.Offset+m.Length > 1<<63-1:
		return linux.EFBIG
	}
	return file.Allocate(m.Mode, int64(m.Offset), int64(m.Length))
}

// mapped keeps writers elsewhere away from a file that is mapped here.
func (c *conn) mapped(m *p9.Tmapped) linux.Errno {
	f, file, flags, e := c.open1(m.FID)
	if e != 0 {
		return e
	}
	defer f.put()
	if !flags.Writes() {
		return linux.EBADF
	}
	if k, ok := file.(Mappable); ok {
		return k.Mapped()
	}
	return 0
}
