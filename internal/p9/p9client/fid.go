// SPDX-License-Identifier: Apache-2.0

package p9client

import (
	"fmt"
	"io"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// FID is a fid of a session. Every FID is to be clunked or removed.
type FID struct {
	c   *Client
	num uint32
	// QID is what the server said the fid refers to.
	QID p9.QID
}

// Num returns the number that stands for the fid on the wire.
func (f *FID) Num() uint32 { return f.num }

// Client returns the session that the fid belongs to.
func (f *FID) Client() *Client { return f.c }

func (c *Client) newFID() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		num := c.free[n-1]
		c.free = c.free[:n-1]
		return num
	}
	c.fid++
	return c.fid
}

func (c *Client) release(num uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, num)
}

// Attach returns the tree's root for a numeric user.
func (c *Client) Attach(aname string, uid uint32) (*FID, error) {
	return c.attach(p9.NoFID, aname, uid)
}

// AttachAs is Attach with a fid of [Client.Auth], which stays the caller's: it
// may be used again, for the same tree and user.
func (c *Client) AttachAs(afid *FID, aname string, uid uint32) (*FID, error) {
	return c.attach(afid.num, aname, uid)
}

// AttachSecret is Attach to a tree that asks for a secret.
func (c *Client) AttachSecret(secret []byte, aname string, uid uint32) (*FID, error) {
	afid, err := c.Auth(aname, uid)
	if err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	f, err := c.attachSaying(secret, afid, aname, uid)
	if e := afid.Clunk(); err == nil && e != nil {
		f.Clunk()
		return nil, fmt.Errorf("end authentication: %w", e)
	}
	return f, err
}

func (c *Client) attachSaying(secret []byte, afid *FID, aname string, uid uint32) (*FID, error) {
	for off := 0; off < len(secret); {
		n, err := afid.WriteAt(secret[off:], int64(off))
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
		off += n
	}
	return c.AttachAs(afid, aname, uid)
}

// Auth returns a fid for a conversation about the right to attach to aname for
// a user. byre's server wants its secret to be written there. A server that
// asks for nothing answers with an error.
func (c *Client) Auth(aname string, uid uint32) (*FID, error) {
	f := &FID{c: c, num: c.newFID()}
	var r p9.Rauth
	if err := c.Call(&p9.Tauth{AFID: f.num, Aname: aname, NUname: uid}, &r); err != nil {
		c.release(f.num)
		return nil, err
	}
	f.QID = r.QID
	return f, nil
}

func (c *Client) attach(afid uint32, aname string, uid uint32) (*FID, error) {
	f := &FID{c: c, num: c.newFID()}
	var r p9.Rattach
	if err := c.Call(&p9.Tattach{FID: f.num, AFID: afid, Aname: aname, NUname: uid}, &r); err != nil {
		c.release(f.num)
		return nil, err
	}
	f.QID = r.QID
	return f, nil
}

// Walk returns the file that names lead to. A walk that ends early is ENOENT.
func (f *FID) Walk(names ...string) (*FID, error) {
	to := &FID{c: f.c, num: f.c.newFID(), QID: f.QID}
	at := f.num
	for first := true; first || len(names) > 0; first = false {
		part := names[:min(len(names), p9.MaxWalk)]
		names = names[len(part):]
		var r p9.Rwalk
		err := f.c.Call(&p9.Twalk{FID: at, NewFID: to.num, Names: part}, &r)
		if err == nil && len(r.QIDs) < len(part) {
			err = linux.ENOENT
		}
		if err != nil {
			to.giveUp(at)
			return nil, err
		}
		if len(r.QIDs) > 0 {
			to.QID = r.QIDs[len(r.QIDs)-1]
		}
		at = to.num
	}
	return to, nil
}

// giveUp forgets a fid that a walk of several steps did not finish.
func (f *FID) giveUp(at uint32) {
	if at == f.num {
		f.Clunk()
		return
	}
	f.c.release(f.num)
}

// Clunk forgets the fid. For an attribute being written it sets it.
func (f *FID) Clunk() error {
	defer f.c.release(f.num)
	return f.c.Call(&p9.Tclunk{FID: f.num}, &p9.Rclunk{})
}

// Remove removes the file and forgets the fid.
func (f *FID) Remove() error {
	defer f.c.release(f.num)
	return f.c.Call(&p9.Tremove{FID: f.num}, &p9.Rremove{})
}

// Getattr returns what mask asks for.
func (f *FID) Getattr(mask uint64) (p9.Attr, error) {
	var r p9.Rgetattr
	err := f.c.Call(&p9.Tgetattr{FID: f.num, Mask: mask}, &r)
	return r.Attr, err
}

// Setattr changes attributes.
func (f *FID) Setattr(s p9.SetAttr) error {
	return f.c.Call(&p9.Tsetattr{FID: f.num, SetAttr: s}, &p9.Rsetattr{})
}

// Statfs tells of the file system.
func (f *FID) Statfs() (p9.Statfs, error) {
	var r p9.Rstatfs
	err := f.c.Call(&p9.Tstatfs{FID: f.num}, &r)
	return r.Statfs, err
}

// Open opens the fid. Its QID is then what the server says of the open file:
// version 0 asks not to cache it.
func (f *FID) Open(flags linux.OpenFlags) error {
	var r p9.Rlopen
	err := f.c.Call(&p9.Tlopen{FID: f.num, Flags: flags}, &r)
	if err == nil {
		f.QID = r.QID
	}
	return err
}

// Create makes a file in the directory f, which becomes the open file.
func (f *FID) Create(name string, flags linux.OpenFlags, mode linux.Mode, gid uint32) error {
	var r p9.Rlcreate
	err := f.c.Call(&p9.Tlcreate{FID: f.num, Name: name, Flags: flags, Mode: mode, GID: gid}, &r)
	if err == nil {
		f.QID = r.QID
	}
	return err
}

// ReadAt reads up to what one message holds.
func (f *FID) ReadAt(p []byte, off int64) (int, error) {
	n := min(uint32(len(p)), f.c.msize-p9.IOHeaderSize)
	var r p9.Rread
	err := f.c.Call(&p9.Tread{FID: f.num, Offset: uint64(off), Count: n}, &r)
	return copy(p, r.Data), err
}

// WriteAt writes up to what one message holds.
func (f *FID) WriteAt(p []byte, off int64) (int, error) {
	n := min(uint32(len(p)), f.c.msize-p9.IOHeaderSize)
	var r p9.Rwrite
	err := f.c.Call(&p9.Twrite{FID: f.num, Offset: uint64(off), Data: p[:n]}, &r)
	return int(r.Count), err
}

// Readdir returns the entries that follow the cookie off and fit count bytes.
func (f *FID) Readdir(off uint64, count uint32) ([]p9.Dirent, error) {
	var r p9.Rreaddir
	if err := f.c.Call(&p9.Treaddir{FID: f.num, Offset: off, Count: count}, &r); err != nil {
		return nil, err
	}
	return p9.ParseDirents(r.Data)
}

// Opendir returns an open fid of the directory f and the first of its entries,
// those that fit count bytes. It asks with one request beyond 9P2000.L.
func (f *FID) Opendir(flags linux.OpenFlags, count uint32) (*FID, []p9.Dirent, error) {
	to := &FID{c: f.c, num: f.c.newFID()}
	var r p9.Ropendir
	if err := f.c.Call(&p9.Topendir{FID: f.num, NewFID: to.num, Flags: flags, Count: count}, &r); err != nil {
		f.c.release(to.num)
		return nil, nil, err
	}
	to.QID = r.QID
	list, err := p9.ParseDirents(r.Data)
	if err != nil {
		to.Clunk()
		return nil, nil, err
	}
	return to, list, nil
}

// Fsync makes the open file durable.
func (f *FID) Fsync(datasync bool) error {
	m := &p9.Tfsync{FID: f.num}
	if datasync {
		m.Datasync = 1
	}
	return f.c.Call(m, &p9.Rfsync{})
}

// Readlink returns the target of a symbolic link.
func (f *FID) Readlink() (string, error) {
	var r p9.Rreadlink
	err := f.c.Call(&p9.Treadlink{FID: f.num}, &r)
	return r.Target, err
}
