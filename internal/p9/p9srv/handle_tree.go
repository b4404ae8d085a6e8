// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

func (c *conn) attach(m *p9.Tattach) (p9.Message, linux.Errno) {
	if e := c.authorized(m); e != 0 {
		return nil, e
	}
	node, e := c.srv.attach(Attach{Uname: m.Uname, Aname: m.Aname, UID: m.NUname})
	if e != 0 {
		return nil, e
	}
	qid := node.QID()
	uid := m.NUname
	if uid == p9.NoUname {
		uid = 0
	}
	if e := c.insert(m.FID, uid, node); e != 0 {
		return nil, e
	}
	return &p9.Rattach{QID: qid}, 0
}

// walk makes NewFID refer to what is reached by Names. If it gets only part
// of the way NewFID is not made; if it gets nowhere that is an error.
func (c *conn) walk(m *p9.Twalk) (p9.Message, linux.Errno) {
	f, at, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	r := &c.quick.walk
	r.QIDs = r.QIDs[:0]
	node := at.Clone()
	for _, name := range m.Names {
		next, e := step(node, name)
		if e != 0 {
			node.Release()
			if len(r.QIDs) == 0 {
				return nil, e
			}
			return r, 0
		}
		node.Release()
		node = next
		r.QIDs = append(r.QIDs, next.QID())
	}
	return r, c.place(f, m.NewFID, node)
}

func step(n Node, name string) (Node, linux.Errno) {
	if e := checkName(name); e != 0 {
		return nil, e
	}
	if n.QID().Type&p9.QTDir == 0 {
		return nil, linux.ENOTDIR
	}
	return n.Walk(name)
}

// place makes num refer to node, with f's user; num may be f itself unless
// that is open.
func (c *conn) place(f *fid, num uint32, node Node) linux.Errno {
	if num != f.num {
		return c.insert(num, f.uid, node)
	}
	if _, file := f.state(); file != nil {
		node.Release()
		return linux.EBUSY
	}
	old := c.fids.remove(num)
	if old != f {
		node.Release()
		return linux.EBADF
	}
	e := c.insert(num, f.uid, node)
	c.drop(old)
	return e
}

func (c *conn) getattr(m *p9.Tgetattr) (p9.Message, linux.Errno) {
	f, node, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	r := &c.quick.getattr
	return r, attributes(node, m.Mask, &r.Attr)
}

// attributes fills a with what mask asks for, the bits of our own among it.
func attributes(node Node, mask uint64, a *p9.Attr) linux.Errno {
	*a = p9.Attr{}
	if e := node.Getattr(mask&^(p9.AttrNoACL|p9.AttrMore), a); e != 0 {
		return e
	}
	if mask&p9.AttrNoACL != 0 && !hasACL(node, a.Mode.IsDir()) {
		a.Valid |= p9.AttrNoACL
	}
	a.Valid |= mask & p9.AttrMore
	return 0
}

// hasACL reports whether a file has POSIX access lists, or may have them.
func hasACL(node Node, dir bool) bool {
	names := []string{"system.posix_acl_access", "system.posix_acl_default"}
	if !dir {
		names = names[:1] // a list for new entries is a directory's
	}
	for _, name := range names {
		_, e := node.Getxattr(name)
		if e != linux.ENODATA && e != linux.EOPNOTSUPP && e != linux.ENOSYS {
			return true
		}
	}
	return false
}

func (c *conn) setattr(m *p9.Tsetattr) linux.Errno {
	f := c.fids.get(m.FID)
	if f == nil {
		return linux.EBADF
	}
	defer f.put()
	node, file := f.state()
	if node == nil || f.xattr != nil {
		return linux.EBADF
	}
	if m.Valid&p9.SetSize != 0 && m.Size > 1<<63-1 {
		return linux.EFBIG
	}
	return node.Setattr(&m.SetAttr, file)
}

func (c *conn) statfs(m *p9.Tstatfs) (p9.Message, linux.Errno) {
	f, node, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	r := new(p9.Rstatfs)
	return r, node.Statfs(&r.Statfs)
}

func (c *conn) readlink(m *p9.Treadlink) (p9.Message, linux.Errno) {
	f, node, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	target, e := node.Readlink()
	return &p9.Rreadlink{Target: target}, e
}

// clunk forgets a fid. For an attribute that was written this is when it is
// set, and its error is the client's answer; a file's close has none.
func (c *conn) clunk(m *p9.Tclunk) linux.Errno {
	f := c.fids.remove(m.FID)
	if f == nil {
		return linux.EBADF
	}
	var e linux.Errno
	if f.xattr != nil {
		e = f.xattr.commit(f.node)
	}
	return cmpErrno(e, c.drop(f))
}

// cmpErrno returns the first error of the two.
func cmpErrno(a, b linux.Errno) linux.Errno {
	if a != 0 {
		return a
	}
	return b
}

// remove removes the file and forgets the fid, whatever comes of it.
func (c *conn) remove(m *p9.Tremove) linux.Errno {
	f := c.fids.remove(m.FID)
	if f == nil {
		return linux.EBADF
	}
	e := linux.EBADF
	if f.node != nil && f.xattr == nil {
		e = f.node.Remove()
	}
	c.drop(f)
	return e
}
