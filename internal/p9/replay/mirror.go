// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// mirror is a file as the agent refers to it. It is read from the tree below
// and changes nothing there.
type mirror struct {
	t *Tree
	// e is the name it was found by, nil if that is not followed.
	e *entry
	// inner is the file, nil for a ghost: a name that went, whose going is
	// about to be told.
	inner p9srv.Node
	// ghost is what a ghost shows.
	ghost p9.Attr
}

var _ p9srv.Node = (*mirror)(nil)

// QID returns the node's QID.
func (m *mirror) QID() p9.QID {
	if m.inner == nil {
		return m.ghost.QID
	}
	return m.inner.QID()
}

// FileID returns what locks are keyed by.
func (m *mirror) FileID() p9srv.FileID {
	if m.inner == nil {
		return p9srv.FileID{Volume: ^uint64(0), File: m.ghost.QID.Path}
	}
	return m.inner.FileID()
}

// Clone returns another reference.
func (m *mirror) Clone() p9srv.Node {
	m.t.retain(m.e)
	c := *m
	if m.inner != nil {
		c.inner = m.inner.Clone()
	}
	return &c
}

// Release gives up the reference.
func (m *mirror) Release() {
	release(m.inner)
	m.t.release(m.e)
}

// Walk finds a name as it was before the steps that are announced: what they
// make is not there yet, what they remove still is.
func (m *mirror) Walk(name string) (p9srv.Node, linux.Errno) {
	t := m.t
	t.mu.Lock()
	d := m.subLocked()
	a := t.announcedLocked(d, name)
	var moved p9srv.Node
	switch {
	case a == nil:
	case a.target || a.Kind == Create && a.hidden:
		t.mu.Unlock()
		return nil, linux.ENOENT
	case a.Kind == Remove:
		defer t.mu.Unlock()
		st := state{}
		if a.e != nil {
			st = a.e.st
		}
		return t.ghostLocked(d, name, a.IsDir, &st), 0
	case a.Kind == Rename:
		moved = a.node.Clone()
	}
	t.mu.Unlock()
	c, errno := moved, linux.Errno(0)
	if c == nil && m.inner != nil {
		c, errno = m.inner.Walk(name)
	} else if c == nil {
		errno = linux.ENOENT
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d = m.subLocked()
	if errno != 0 {
		// On the way to what went with its directory.
		if d != nil && d.entries[name] != nil && d.entries[name].sub != nil {
			return t.ghostLocked(d, name, true, &d.entries[name].st), 0
		}
		return nil, errno
	}
	return &mirror{t: t, e: t.mirroredLocked(d, name), inner: c}, 0
}

// subLocked returns the directory of interest that m is, nil if it is none.
func (m *mirror) subLocked() *dir {
	if m.e == nil {
		return nil
	}
	return m.e.sub
}

// mirroredLocked returns the entry of a name, referenced.
func (t *Tree) mirroredLocked(d *dir, name string) *entry {
	if d == nil {
		return nil
	}
	e := t.entryLocked(d, name)
	unlink(e)
	e.refs++
	return e
}

// ghostLocked returns what stands for a name that went.
func (t *Tree) ghostLocked(d *dir, name string, isDir bool, st *state) *mirror {
	t.ghosts++
	m := &mirror{t: t, e: t.mirroredLocked(d, name)}
	mode := linux.TypeRegular | 0o644
	if isDir {
		mode = linux.TypeDir | 0o755
	}
	m.ghost = p9.Attr{
		Valid: p9.AttrBasic | p9.AttrGen, Mode: mode, Nlink: 1, Size: st.size, BlockSize: 4096,
		UID: st.owner.UID, GID: st.owner.GID, Atime: st.mtime, Mtime: st.mtime, Ctime: st.ctime,
		QID: p9.QID{Type: p9.QIDType(mode), Version: 1, Path: 1<<63 | 1<<62 | t.ghosts},
	}
	return m
}

// Getattr tells of the file; of one that the guest is to forget, that it is
// not there.
func (m *mirror) Getattr(mask uint64, a *p9.Attr) linux.Errno {
	if s := m.announced(); s != nil && s.Kind == Create && s.Known && s.hidden {
		return linux.ENOENT
	}
	if m.inner == nil {
		*a = m.ghost
		return 0
	}
	return m.inner.Getattr(mask, a)
}

// announced returns the step that is next for m's name.
func (m *mirror) announced() *armed {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	if m.e == nil {
		return nil
	}
	return m.t.announcedLocked(m.e.dir, m.e.name)
}

// Statfs tells of the file system.
func (m *mirror) Statfs(s *p9.Statfs) linux.Errno {
	if m.inner == nil {
		return linux.ESTALE
	}
	return m.inner.Statfs(s)
}

// Readlink returns a link's target.
func (m *mirror) Readlink() (string, linux.Errno) {
	if m.inner == nil {
		return "", linux.EINVAL
	}
	return m.inner.Readlink()
}

// Getxattr returns an attribute's value.
func (m *mirror) Getxattr(name string) ([]byte, linux.Errno) {
	if m.inner == nil {
		return nil, linux.ENODATA
	}
	return m.inner.Getxattr(name)
}

// Listxattr returns the attributes' names.
func (m *mirror) Listxattr() ([]byte, linux.Errno) {
	if m.inner == nil {
		return nil, 0
	}
	return m.inner.Listxattr()
}
