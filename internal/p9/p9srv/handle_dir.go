// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

func (c *conn) mkdir(m *p9.Tmkdir) (p9.Message, linux.Errno) {
	f, dir, e := c.dir(m.DirFID, m.Name)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	qid, e := dir.Mkdir(m.Name, m.Mode.Perm(), Owner{f.uid, m.GID})
	return &p9.Rmkdir{QID: qid}, e
}

func (c *conn) symlink(m *p9.Tsymlink) (p9.Message, linux.Errno) {
	f, dir, e := c.dir(m.FID, m.Name)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	switch {
	case m.Target == "":
		return nil, linux.ENOENT
	case len(m.Target) >= linux.PathMax:
		return nil, linux.ENAMETOOLONG
	}
	for i := range len(m.Target) {
		if m.Target[i] == 0 {
			return nil, linux.EINVAL
		}
	}
	qid, e := dir.Symlink(m.Name, m.Target, Owner{f.uid, m.GID})
	return &p9.Rsymlink{QID: qid}, e
}

func (c *conn) mknod(m *p9.Tmknod) (p9.Message, linux.Errno) {
	f, dir, e := c.dir(m.FID, m.Name)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	mode := m.Mode
	if mode.Type() == 0 {
		mode |= linux.TypeRegular
	}
	if !mode.IsSpecial() && !mode.IsRegular() {
		return nil, linux.EINVAL
	}
	qid, e := dir.Mknod(m.Name, mode, m.Major, m.Minor, Owner{f.uid, m.GID})
	return &p9.Rmknod{QID: qid}, e
}

func (c *conn) link(m *p9.Tlink) linux.Errno {
	f, dir, e := c.dir(m.DirFID, m.Name)
	if e != 0 {
		return e
	}
	defer f.put()
	tf, target, e := c.node(m.FID)
	if e != 0 {
		return e
	}
	defer tf.put()
	if target.QID().Type&p9.QTDir != 0 {
		return linux.EPERM
	}
	return dir.Link(target, m.Name)
}

func (c *conn) unlinkat(m *p9.Tunlinkat) linux.Errno {
	f, dir, e := c.dir(m.DirFID, m.Name)
	if e != 0 {
		return e
	}
	defer f.put()
	if m.Flags&^linux.AtRemovedir != 0 {
		return linux.EINVAL
	}
	return dir.Unlinkat(m.Name, m.Flags)
}

func (c *conn) renameat(m *p9.Trenameat) linux.Errno {
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
	return dir.Renameat(m.OldName, newDir, m.NewName, 0)
}

func (c *conn) rename(m *p9.Trename) linux.Errno {
	to, newDir, e := c.dir(m.DirFID, m.Name)
	if e != 0 {
		return e
	}
	defer to.put()
	f, node, e := c.node(m.FID)
	if e != 0 {
		return e
	}
	defer f.put()
	return node.Rename(newDir, m.Name)
}

func (c *conn) readdir(m *p9.Treaddir) (p9.Message, linux.Errno) {
	f, file, _, e := c.open1(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	data, e := entries(file, m.Offset, min(m.Count, c.msize-p9.ReadHeaderSize))
	return &p9.Rreaddir{Data: data}, e
}

// entries returns as many of a directory's entries as fit limit bytes, from an
// offset on. A client of byre's kernel takes a reply with room for any entry as
// the last. So what fails after some entries is answered at once, and that not
// even one fits is an error.
func entries(dir File, offset uint64, most uint32) ([]byte, linux.Errno) {
	limit := int(most)
	data := make([]byte, 0, min(limit, 32<<10))
	full := false
	e := dir.Readdir(offset, func(d *p9.Dirent) bool {
		if len(data)+d.Size() > limit {
			full = true
			return false
		}
		data = p9.AppendDirent(data, d)
		return true
	})
	if e == 0 && full && len(data) == 0 {
		e = linux.EINVAL
	}
	return data, e
}
