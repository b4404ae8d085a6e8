// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"strings"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// quickly answers a request on the reader's goroutine. The message that it
// returns is valid until the next call.
func (c *conn) quickly(m p9.Message) p9.Message {
	var reply p9.Message
	var e linux.Errno
	switch m := m.(type) {
	case *p9.Twalk:
		reply, e = c.walk(m)
	case *p9.Tlookup:
		reply, e = c.lookup(m)
	case *p9.Tgetattr:
		reply, e = c.getattr(m)
	case *p9.Tclunk:
		reply, e = &p9.Rclunk{}, c.clunk(m)
	case *p9.Treadlink:
		reply, e = c.readlink(m)
	case *p9.Tattach:
		reply, e = c.attach(m)
	case *p9.Tauth:
		reply, e = c.authBegin(m)
	case *p9.Txattrwalk:
		reply, e = c.xattrWalk(m)
	case *p9.Txattrcreate:
		reply, e = &p9.Rxattrcreate{}, c.xattrCreate(m)
	case *p9.Tgetlock:
		reply, e = c.getlock(m)
	default:
		e = linux.EOPNOTSUPP
	}
	if e != 0 {
		c.quick.error.Ecode = e
		return &c.quick.error
	}
	return reply
}

// slowly answers a request on a worker.
func (c *conn) slowly(m p9.Message) p9.Message {
	var reply p9.Message
	var e linux.Errno
	switch m := m.(type) {
	case *p9.Twrite:
		reply, e = c.write(m)
	case *p9.Tlopen:
		reply, e = c.open(m)
	case *p9.Tlcreate:
		reply, e = c.create(m)
	case *p9.Topenat:
		reply, e = c.openat(m)
	case *p9.Tcreateat:
		reply, e = c.createat(m)
	case *p9.Ttmpfile:
		reply, e = c.tmpfile(m)
	case *p9.Topendir:
		reply, e = c.opendir(m)
	case *p9.Tmapped:
		reply, e = &p9.Rmapped{}, c.mapped(m)
	case *p9.Tallocate:
		reply, e = &p9.Rallocate{}, c.allocate(m)
	case *p9.Treaddir:
		reply, e = c.readdir(m)
	case *p9.Tfsync:
		reply, e = &p9.Rfsync{}, c.fsync(m)
	case *p9.Tsetattr:
		reply, e = &p9.Rsetattr{}, c.setattr(m)
	case *p9.Tstatfs:
		reply, e = c.statfs(m)
	case *p9.Tremove:
		reply, e = &p9.Rremove{}, c.remove(m)
	default:
		reply, e = c.names(m)
	}
	if e != 0 {
		return &p9.Rlerror{Ecode: e}
	}
	return reply
}

// names answers the requests that change a directory.
func (c *conn) names(m p9.Message) (p9.Message, linux.Errno) {
	switch m := m.(type) {
	case *p9.Tmkdir:
		return c.mkdir(m)
	case *p9.Tsymlink:
		return c.symlink(m)
	case *p9.Tmknod:
		return c.mknod(m)
	case *p9.Tlink:
		return &p9.Rlink{}, c.link(m)
	case *p9.Tunlinkat:
		return &p9.Runlinkat{}, c.unlinkat(m)
	case *p9.Trenameat:
		return &p9.Rrenameat{}, c.renameat(m)
	case *p9.Trenameat2:
		return &p9.Rrenameat2{}, c.renameat2(m)
	case *p9.Trename:
		return &p9.Rrename{}, c.rename(m)
	}
	return nil, linux.EOPNOTSUPP
}

// checkName refuses what is not one name in a directory.
func checkName(name string) linux.Errno {
	switch {
	case name == "":
		return linux.ENOENT
	case len(name) > linux.NameMax:
		return linux.ENAMETOOLONG
	case name == "." || name == "..":
		return linux.EINVAL
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return linux.EINVAL
	}
	return 0
}

// node returns the fid and the node it refers to. The caller puts the fid.
func (c *conn) node(num uint32) (*fid, Node, linux.Errno) {
	f := c.fids.get(num)
	if f == nil {
		return nil, nil, linux.EBADF
	}
	n, _ := f.state()
	if n == nil || f.xattr != nil {
		f.put()
		return nil, nil, linux.EBADF
	}
	return f, n, 0
}

// dir is node for a request that names something in a directory.
func (c *conn) dir(num uint32, name string) (*fid, Node, linux.Errno) {
	if e := checkName(name); e != 0 {
		return nil, nil, e
	}
	f, n, e := c.node(num)
	if e == 0 && n.QID().Type&p9.QTDir == 0 {
		f.put()
		return nil, nil, linux.ENOTDIR
	}
	return f, n, e
}

// insert makes num refer to node, or releases it.
func (c *conn) insert(num, uid uint32, node Node) linux.Errno {
	f := &fid{num: num, uid: uid, node: node}
	f.refs.Store(1)
	e := c.fids.add(f)
	if e != 0 {
		node.Release()
	}
	return e
}
