// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"sync"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// What is here answers the requests by which the agent takes steps. Those that
// were not announced get EPERM, those that things have overtaken ESTALE or
// EAGAIN: the agent tells, and the names are looked at again.

// Symlink tells of a file that was made.
func (m *mirror) Symlink(name, _ string, _ p9srv.Owner) (p9.QID, linux.Errno) {
	if _, e := m.made(name, false); e != 0 {
		return p9.QID{}, e
	}
	return p9.QID{Type: p9.QTSymlink, Version: 1}, 0
}

// Mkdir tells of a directory that was made.
func (m *mirror) Mkdir(name string, _ linux.Mode, _ p9srv.Owner) (p9.QID, linux.Errno) {
	s, e := m.made(name, true)
	if e != 0 {
		return p9.QID{}, e
	}
	return s.st.id, 0
}

// made acknowledges the making of a name.
func (m *mirror) made(name string, isDir bool) (*Step, linux.Errno) {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	d := m.subLocked()
	s := m.t.announcedLocked(d, name)
	if s == nil || s.Kind != Create || s.IsDir != isDir {
		return nil, linux.EPERM
	}
	if !s.currentLocked(d, name) {
		return nil, linux.ESTALE
	}
	s.done = true
	e := d.entries[name]
	if isDir {
		e = m.t.entryLocked(d, name)
		e.st, e.known, e.own, e.gone, e.looked = s.st, true, false, false, false
		m.t.settleLocked(e)
	} else if e != nil {
		e.looked = false // told now
		if e.gone {
			m.t.dropLocked(e)
		}
	}
	return s.Step, 0
}

// Unlinkat tells that a name went.
func (m *mirror) Unlinkat(name string, _ uint32) linux.Errno {
	t := m.t
	t.mu.Lock()
	d := m.subLocked()
	s := t.announcedLocked(d, name)
	t.mu.Unlock()
	if s == nil || s.Kind != Remove {
		return linux.EPERM
	}
	if m.inner != nil && s.e != nil {
		// The tree must agree: what is there must not be what goes.
		if n, st := look(m.inner, name); n != nil {
			n.Release()
			if st.id == s.e.st.id {
				return linux.ESTALE
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.done || !s.currentLocked(d, name) {
		return linux.ESTALE
	}
	s.done = true
	if e := d.entries[name]; e != nil {
		t.dropLocked(e)
	}
	return 0
}

// currentLocked says whether the guest has changed nothing about the step's
// entry since the step was made.
func (s *Step) currentLocked(d *dir, name string) bool {
	e := d.entries[name]
	if s.e == nil {
		return e == nil || e.busy == 0 && !e.own
	}
	return e == s.e && e.gen == s.gen && e.busy == 0
}

// Renameat tells that a name moved.
func (m *mirror) Renameat(oldName string, newDir p9srv.Node, newName string, flags uint32) linux.Errno {
	to, ok := newDir.(*mirror)
	if !ok {
		return linux.EXDEV
	}
	if flags != 0 {
		return linux.EPERM
	}
	t := m.t
	t.mu.Lock()
	defer t.mu.Unlock()
	from, dest := m.subLocked(), to.subLocked()
	s := t.announcedLocked(from, oldName)
	if s == nil || s.Kind != Rename || s.target || s.to != dest || s.ToName != newName {
		return linux.EPERM
	}
	dst := dest.entries[newName]
	if !s.currentLocked(from, oldName) || dst != nil && dst.busy > 0 {
		return linux.ESTALE
	}
	s.done = true
	src := t.busyLocked(t.entryLocked(from, oldName))
	moved := t.moveLocked(src, t.busyLocked(t.entryLocked(dest, newName)))
	t.dropLocked(from.entries[oldName])
	if moved.known && !moved.st.sameContents(&s.st) {
		s.st.size, s.st.mtime = moved.st.size, moved.st.mtime
		t.queueLocked(&hint{dir: dest, name: newName, op: watch.Modify | watch.Close})
	}
	moved.st, moved.known, moved.own, moved.looked = s.st, true, false, false
	return 0
}

// Setattr tells of a changed file. Its size is taken only while the guest has
// the file not open for writing, and only if it is the size there is: the
// guest's kernel holds the inode locked from before this request until it has
// set the size, so that nothing that the guest writes can be cut off.
func (m *mirror) Setattr(a *p9.SetAttr, _ p9srv.File) linux.Errno {
	s := m.announced()
	if s == nil {
		return linux.EPERM
	}
	switch {
	case s.Kind == Create && s.Known && a.Valid&p9.SetSize == 0:
		m.t.mu.Lock()
		defer m.t.mu.Unlock()
		if !s.currentLocked(s.dir, s.Name) {
			return linux.ESTALE // the guest has made another since
		}
		s.hidden = true
		return 0
	case s.Kind == Modify && a.Valid&p9.SetSize != 0:
		return m.resize(s.Step, a.Size)
	case s.Kind == Attrib && a.Valid&p9.SetSize == 0, s.Kind == Modify:
		return m.touched(s.Step)
	}
	return linux.EPERM
}

func (m *mirror) resize(s *Step, size uint64) linux.Errno {
	var a p9.Attr
	if m.inner == nil {
		return linux.ESTALE
	}
	if m.inner.Getattr(p9.AttrAll, &a) != 0 || a.QID != s.st.id && !m.t.cfg.Single {
		m.misjudged()
		return linux.ESTALE
	}
	id := m.inner.FileID()
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	o := m.t.opens[id]
	switch {
	case o != nil && !s.shared:
		return linux.EBUSY
	case size != a.Size || m.e.busy > 0 || s.e != nil && (m.e != s.e || m.e.gen != s.gen):
		return linux.EAGAIN
	}
	s.done = true
	m.e.st, m.e.known, m.e.own, m.e.dirty = s.st, true, false, false
	m.t.toldLocked(&s.st)
	if o != nil {
		o.size, o.unknown = size, false
	}
	return 0
}

// misjudged notes that the guest has another file under the name than it was
// taken to have: it is told of the one that is there when the name is looked at
// again.
func (m *mirror) misjudged() {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	if m.e.known && m.e.busy == 0 && !m.t.cfg.Single {
		m.e.st.id = m.inner.QID()
	}
}

// touched acknowledges changed attributes. What the guest knows of the
// contents stays as it is.
func (m *mirror) touched(s *Step) linux.Errno {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	if m.e.busy > 0 || s.e != nil && (m.e != s.e || m.e.gen != s.gen) {
		return linux.EAGAIN
	}
	if s.Kind == Attrib {
		s.done = true
		if m.e.known && m.e.st.mode.IsRegular() {
			s.st.size = m.e.st.size
		}
		m.e.st, m.e.known = s.st, true
	}
	return 0
}

// Open opens the file for the agent, who reads and writes nothing. For writing
// it must be announced.
func (m *mirror) Open(flags linux.OpenFlags) (p9srv.File, linux.Errno) {
	if m.inner == nil {
		return nil, linux.ESTALE
	}
	if isDir(m.inner) {
		return m.inner.Open(flags)
	}
	if flags.Writes() {
		s := m.announced()
		if s == nil || s.Kind != Modify || flags&linux.OTrunc != 0 {
			return nil, linux.EPERM
		}
		if m.t.writing(m.inner.FileID()) && !s.shared {
			return nil, linux.EBUSY
		}
		return &mirrorFile{n: m, flags: flags, reclaims: s.shared}, 0
	}
	return &mirrorFile{n: m, flags: flags}, 0
}

// WrittenElsewhere says that the guest's kernel is to give up what it has
// cached of the file.
func (f *mirrorFile) WrittenElsewhere() bool { return f.reclaims }

// writing says whether the guest has the file open for writing.
func (t *Tree) writing(id p9srv.FileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opens[id] != nil
}

// mirrorFile is a file that the agent has open. It is opened in the tree below
// only when it is used: by the guest's kernel, if it chooses this handle to
// write what a process of the guest's has written through another, or to read
// for one. That is the guest's own change then, as through the other handle.
type mirrorFile struct {
	p9srv.UnimplementedFile
	n     *mirror
	flags linux.OpenFlags
	// reclaims says that the file is open for writing in the guest, which
	// gives up its cache of it with this opening.
	reclaims bool

	mu sync.Mutex
	// file is guarded by mu.
	file p9srv.File
}

func (f *mirrorFile) use() (p9srv.File, linux.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		return f.file, 0
	}
	n := &node{Node: f.n.inner, t: f.n.t, e: f.n.e}
	file, e := n.open(f.flags) // this file, whatever has its name by now
	if e == 0 {
		f.file = file
	}
	return file, e
}

// Read reads.
func (f *mirrorFile) Read(p []byte, off int64) (int, linux.Errno) {
	file, e := f.use()
	if e != 0 {
		return 0, e
	}
	return file.Read(p, off)
}

// Write acknowledges what the agent writes on kernels that are not byre's, the
// last byte of a file, as if its size were set; see Setattr. EAGAIN is not for
// writes: netfs would send them again until another answer comes. Anything
// else is a process's, who may have closed the file since; only what could be
// an agent's that comes too late must not reach the tree.
func (f *mirrorFile) Write(p []byte, off int64) (int, linux.Errno) {
	s := f.n.announced()
	if s != nil && s.Kind == Modify && !f.reclaims && len(p) == 1 && uint64(off)+1 == s.Size {
		switch e := f.n.resize(s.Step, s.Size); e {
		case 0:
			return 1, 0
		case linux.EAGAIN:
			return 0, linux.ESTALE
		default:
			return 0, e
		}
	}
	if len(p) == 1 && p[0] == 0 && !f.reclaims && !f.n.t.writing(f.n.inner.FileID()) {
		return 0, linux.EPERM
	}
	file, e := f.use()
	if e != 0 {
		return 0, e
	}
	return file.Write(p, off)
}

// Allocate answers EPERM.
func (f *mirrorFile) Allocate(uint32, int64, int64) linux.Errno { return linux.EPERM }

// Fsync makes what was written durable.
func (f *mirrorFile) Fsync(datasync bool) linux.Errno {
	file, e := f.use()
	if e != 0 {
		return e
	}
	return file.Fsync(datasync)
}

// Close closes the file.
func (f *mirrorFile) Close() linux.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0
	}
	return f.file.Close()
}

// Create answers EPERM.
func (m *mirror) Create(string, linux.OpenFlags, linux.Mode, p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	return nil, nil, linux.EPERM
}

// Tmpfile answers EPERM.
func (m *mirror) Tmpfile(linux.OpenFlags, linux.Mode, p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	return nil, nil, linux.EPERM
}

// Mknod answers EPERM.
func (m *mirror) Mknod(string, linux.Mode, uint32, uint32, p9srv.Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EPERM
}

// Link answers EPERM.
func (m *mirror) Link(p9srv.Node, string) linux.Errno { return linux.EPERM }

// Rename answers EPERM.
func (m *mirror) Rename(p9srv.Node, string) linux.Errno { return linux.EPERM }

// Remove answers EPERM.
func (m *mirror) Remove() linux.Errno { return linux.EPERM }

// Setxattr answers EPERM.
func (m *mirror) Setxattr(string, []byte, uint32) linux.Errno { return linux.EPERM }

// Removexattr does nothing while a changed file is told of, when Linux takes
// away what a write would; else it answers EPERM.
func (m *mirror) Removexattr(string) linux.Errno {
	if s := m.announced(); s != nil && s.Kind == Modify {
		return 0
	}
	return linux.EPERM
}
