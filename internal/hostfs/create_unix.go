// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// birth is what a new file is to be.
type birth struct {
	mode         linux.Mode
	uid, gid     uint32
	major, minor uint32
}

// begin pins the directory and settles what a file made in it is to be: in a
// set-group-id directory it has the directory's group.
func (n *node) begin(mode linux.Mode, o p9srv.Owner) (int, birth, linux.Errno) {
	b := birth{mode: mode, uid: o.UID, gid: o.GID}
	if e := n.fs.writable(); e != 0 {
		return -1, b, e
	}
	dfd, e := n.fs.acquire(n.ino)
	if e != 0 {
		return -1, b, e
	}
	var st stat
	if e := n.fs.statPlace(dfd, "", &st); e != 0 {
		n.fs.unpin(n.ino)
		return -1, b, e
	}
	if st.mode&linux.SetGID != 0 {
		b.gid = st.gid
		if mode.IsDir() {
			b.mode |= linux.SetGID
		}
	}
	return dfd, b, 0
}

// Create makes and opens a file, or opens the one that is there.
func (n *node) Create(name string, flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	c, f, e := n.createNew(name, flags, mode, o)
	if e == linux.EROFS && flags&linux.OExcl == 0 || e == linux.EEXIST && flags&linux.OExcl == 0 {
		c, f, e = n.openExisting(name, flags, e)
	}
	if e != 0 {
		return nil, nil, e
	}
	return c, f, 0
}

func (n *node) createNew(name string, flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (*node, *file, linux.Errno) {
	dfd, b, e := n.begin(mode|linux.TypeRegular, o)
	if e != 0 {
		return nil, nil, e
	}
	defer n.fs.unpin(n.ino)
	fd, err := createAt(dfd, name, flags, n.fs.hostMode(b.mode))
	if err != nil {
		return nil, nil, n.fs.errno(err)
	}
	c, e := n.finish(dfd, fd, name, b)
	if e != 0 {
		closeFD(fd)
		unlinkAt(dfd, name, 0)
		return nil, nil, e
	}
	return c, n.fs.newFile(c.ino, fd, flags), 0
}

// Tmpfile makes and opens a file without a name. It has a handle for as long
// as it has none.
func (n *node) Tmpfile(flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	dfd, b, e := n.begin(mode|linux.TypeRegular, o)
	if e != 0 {
		return nil, nil, e
	}
	defer n.fs.unpin(n.ino)
	fd, err := tmpfileIn(dfd, flags, n.fs.hostMode(b.mode))
	if err != nil {
		return nil, nil, n.fs.errno(err)
	}
	c, e := n.finish(dfd, fd, "", b)
	if e != 0 {
		closeFD(fd)
		return nil, nil, e
	}
	n.fs.mu.Lock()
	c.ino.gone = true
	n.fs.mu.Unlock()
	return c, n.fs.newFile(c.ino, fd, flags), 0
}

// openExisting opens the file that stood in the way of making one.
func (n *node) openExisting(name string, flags linux.OpenFlags, why linux.Errno) (*node, *file, linux.Errno) {
	c, e := n.walk(name)
	if e != 0 {
		return nil, nil, cmpNotFound(e, why)
	}
	switch {
	case c.mode.IsDir():
		e = linux.EISDIR
	case c.mode.IsSymlink():
		e = linux.ELOOP
	default:
		var f *file
		if f, e = c.open(flags &^ linux.OCreate); e == 0 {
			return c, f, 0
		}
	}
	c.Release()
	return nil, nil, e
}

// cmpNotFound prefers why nothing could be made to that nothing was found.
func cmpNotFound(e, why linux.Errno) linux.Errno {
	if e == linux.ENOENT && why == linux.EROFS {
		return why
	}
	return e
}

// finish gives a file that was just made its owner and mode and interns it.
// fd is open on it.
func (n *node) finish(dfd, fd int, name string, b birth) (*node, linux.Errno) {
	h, err := handleOf(dfd, fd, name)
	if err != nil {
		return nil, n.fs.errno(err)
	}
	var st stat
	if err := statAt(h, "", &st); err != nil {
		closeFD(h)
		return nil, n.fs.errno(err)
	}
	if e := n.fs.imprint(h, &st, b); e != 0 {
		closeFD(h)
		return nil, e
	}
	c := n.child(name, &st)
	n.fs.adopt(c.ino, h)
	n.fs.unpin(c.ino)
	return c, 0
}

// made is finish for what was made without being opened; it gives the QID.
// On failure it takes the file away again.
func (n *node) made(dfd int, name string, b birth) (p9.QID, linux.Errno) {
	c, e := n.finish(dfd, -1, name, b)
	if e != 0 {
		flags := 0
		if b.mode.IsDir() {
			flags = linux.AtRemovedir
		}
		unlinkAt(dfd, name, flags)
		return p9.QID{}, e
	}
	defer c.Release()
	return c.QID(), 0
}

// Mkdir makes a directory.
func (n *node) Mkdir(name string, mode linux.Mode, o p9srv.Owner) (p9.QID, linux.Errno) {
	dfd, b, e := n.begin(mode|linux.TypeDir, o)
	if e != 0 {
		return p9.QID{}, e
	}
	defer n.fs.unpin(n.ino)
	if err := mkdirAt(dfd, name, n.fs.hostMode(b.mode)); err != nil {
		return p9.QID{}, n.fs.errno(err)
	}
	return n.made(dfd, name, b)
}

// Symlink makes a symbolic link.
func (n *node) Symlink(name, target string, o p9srv.Owner) (p9.QID, linux.Errno) {
	dfd, b, e := n.begin(linux.TypeSymlink|0o777, o)
	if e != 0 {
		return p9.QID{}, e
	}
	defer n.fs.unpin(n.ino)
	if err := symlinkAt(target, dfd, name); err != nil {
		return p9.QID{}, n.fs.errno(err)
	}
	return n.made(dfd, name, b)
}

// Mknod makes a device, FIFO or socket; where metadata is mapped, an empty
// file that stands for it.
func (n *node) Mknod(name string, mode linux.Mode, major, minor uint32, o p9srv.Owner) (p9.QID, linux.Errno) {
	dfd, b, e := n.begin(mode, o)
	if e != 0 {
		return p9.QID{}, e
	}
	defer n.fs.unpin(n.ino)
	b.major, b.minor = major, minor
	host := b
	host.mode = n.fs.hostMode(b.mode)
	if err := mknodAt(dfd, name, host); err != nil {
		return p9.QID{}, n.fs.errno(err)
	}
	return n.made(dfd, name, b)
}

// Link gives target another name.
func (n *node) Link(target p9srv.Node, name string) linux.Errno {
	t, ok := target.(*node)
	if !ok || t.fs != n.fs {
		return linux.EXDEV
	}
	dfd, _, e := n.begin(t.mode, p9srv.Owner{})
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	fd, e := n.fs.acquire(t.ino)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(t.ino)
	if err := linkAt(fd, dfd, name); err != nil {
		return n.fs.errno(err)
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if t.ino.gone {
		n.fs.moveLocked(t.ino, n.ino, name)
	}
	return 0
}
