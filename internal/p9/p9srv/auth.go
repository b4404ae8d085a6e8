// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"crypto/subtle"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// auth is a conversation of authentication: the client writes the share's
// secret to its fid, then attaches with it, as the user and to the tree that
// the conversation was about: attach(5) has it so.
type auth struct {
	said         xattr
	uname, aname string
	uid          uint32
}

// maxSecret bounds what is taken from a client that authenticates.
const maxSecret = 256

// authBegin makes AFID a fid to write the secret to. Where none is asked for
// the answer is an error, as intro(5) has it.
func (c *conn) authBegin(m *p9.Tauth) (p9.Message, linux.Errno) {
	if len(c.srv.Secret) == 0 {
		return nil, linux.ENOENT
	}
	f := &fid{num: m.AFID, auth: &auth{
		said:  xattr{write: true, size: maxSecret},
		uname: m.Uname, aname: m.Aname, uid: m.NUname,
	}}
	f.refs.Store(1)
	if e := c.fids.add(f); e != 0 {
		return nil, e
	}
	return &p9.Rauth{QID: p9.QID{Type: p9.QTAuth, Version: 1}}, 0
}

// authorized checks that the secret, where there is one, was written to the
// attach's afid.
func (c *conn) authorized(m *p9.Tattach) linux.Errno {
	if len(c.srv.Secret) == 0 {
		if m.AFID != p9.NoFID {
			return linux.EBADF
		}
		return 0
	}
	f := c.fids.get(m.AFID)
	if f == nil {
		return linux.EACCES
	}
	defer f.put()
	if a := f.auth; a == nil || a.uname != m.Uname || a.aname != m.Aname || a.uid != m.NUname {
		return linux.EACCES
	}
	x := &f.auth.said
	x.mu.Lock()
	defer x.mu.Unlock()
	if subtle.ConstantTimeCompare(x.data, c.srv.Secret) != 1 {
		return linux.EACCES
	}
	return 0
}
