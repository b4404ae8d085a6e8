// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"strings"
	"sync"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// maxXattrMemory bounds what the attributes of one connection, being read or
// written, take.
const maxXattrMemory = 16 << 20

// xattr is what a fid refers to after Txattrwalk, to be read, or after
// Txattrcreate, to be written and set when the fid is clunked.
type xattr struct {
	name  string
	size  uint64
	flags uint32
	write bool
	cost  int64

	mu sync.Mutex
	// data is guarded by mu.
	data []byte
}

// xattrWalk makes NewFID readable as the value of an attribute, or with no
// name as the list of all.
func (c *conn) xattrWalk(m *p9.Txattrwalk) (p9.Message, linux.Errno) {
	f, node, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	x := &xattr{name: m.Name}
	if m.Name == "" {
		x.data, e = node.Listxattr()
	} else if e = checkXattrName(m.Name); e == 0 {
		x.data, e = node.Getxattr(m.Name)
	}
	if e != 0 {
		return nil, e
	}
	x.cost = int64(len(x.data)) + 256
	if e := c.takeXattr(x.cost); e != 0 {
		return nil, e
	}
	nf := &fid{num: m.NewFID, uid: f.uid, node: node.Clone(), xattr: x}
	nf.refs.Store(1)
	if e := c.fids.add(nf); e != 0 {
		c.drop(nf)
		return nil, e
	}
	return &p9.Rxattrwalk{Size: uint64(len(x.data))}, 0
}

// xattrCreate turns the fid into an attribute to be written.
func (c *conn) xattrCreate(m *p9.Txattrcreate) linux.Errno {
	if e := checkXattrName(m.Name); e != 0 {
		return e
	}
	switch {
	case m.Size > linux.XattrSizeMax:
		return linux.E2BIG
	case m.Flags&^(linux.XattrCreate|linux.XattrReplace) != 0:
		return linux.EINVAL
	}
	f, node, e := c.node(m.FID)
	if e != 0 {
		return e
	}
	defer f.put()
	if _, file := f.state(); file != nil {
		return linux.EBUSY
	}
	x := &xattr{name: m.Name, size: m.Size, flags: m.Flags, write: true, cost: int64(m.Size) + 256}
	if e := c.takeXattr(x.cost); e != 0 {
		return e
	}
	return c.replace(f, &fid{num: f.num, uid: f.uid, node: node.Clone(), xattr: x})
}

// replace puts nf into old's place, under the same number.
func (c *conn) replace(old, nf *fid) linux.Errno {
	nf.refs.Store(1)
	if c.fids.remove(old.num) != old {
		c.drop(nf)
		return linux.EBADF
	}
	e := c.fids.add(nf)
	c.drop(old)
	return e
}

func (c *conn) takeXattr(n int64) linux.Errno {
	if c.xattrs.Add(n) > maxXattrMemory {
		c.xattrs.Add(-n)
		return linux.ENOMEM
	}
	return 0
}

func checkXattrName(name string) linux.Errno {
	switch {
	case name == "" || len(name) > linux.NameMax:
		return linux.ERANGE
	case strings.IndexByte(name, 0) >= 0:
		return linux.EINVAL
	}
	return 0
}

// special returns the attribute that writes go to, nil if they go to a file.
func (f *fid) special() *xattr {
	if f.auth != nil {
		return &f.auth.said
	}
	return f.xattr
}

func (x *xattr) read(p []byte, off uint64) (int, linux.Errno) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.write {
		return 0, linux.EBADF
	}
	if off >= uint64(len(x.data)) {
		return 0, 0
	}
	return copy(p, x.data[off:]), 0
}

// append takes a piece of the value, in order.
func (x *xattr) append(p []byte, off uint64) (int, linux.Errno) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case !x.write:
		return 0, linux.EBADF
	case off != uint64(len(x.data)):
		return 0, linux.EINVAL
	case off+uint64(len(p)) > x.size:
		return 0, linux.ENOSPC
	}
	x.data = append(x.data, p...)
	return len(p), 0
}

// commit sets what was written. Linux's client sends the removal of an
// attribute as size 0 with XattrReplace, and the setting of an empty one with
// any other flags.
func (x *xattr) commit(node Node) linux.Errno {
	if !x.write {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.size == 0 && x.flags == linux.XattrReplace {
		return node.Removexattr(x.name)
	}
	if uint64(len(x.data)) != x.size {
		return linux.EINVAL
	}
	return node.Setxattr(x.name, x.data, x.flags)
}
