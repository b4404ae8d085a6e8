// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// Setattr changes size, owner, mode and times, in this order: the earlier
// ones change what the later ones set.
func (n *node) Setattr(s *p9.SetAttr, open p9srv.File) linux.Errno {
	if e := n.fs.writable(); e != 0 {
		return e
	}
	h, e := n.fs.acquire(n.ino)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	if s.Valid&p9.SetSize != 0 {
		if e := n.truncate(h, int64(s.Size), open); e != 0 {
			return e
		}
	}
	if s.Valid&(p9.SetUID|p9.SetGID|p9.SetMode) != 0 {
		if e := n.fs.setOwner(h, n.ino.kind, s); e != 0 {
			return e
		}
	}
	if s.Valid&(p9.SetAtime|p9.SetMtime) != 0 {
		return n.fs.errno(setTimes(h, timeOf(s, s.Valid&p9.SetAtime, p9.SetAtimeSet, s.Atime),
			timeOf(s, s.Valid&p9.SetMtime, p9.SetMtimeSet, s.Mtime)))
	}
	return 0
}

// truncate sets the size, through the open file where it may write: that
// works whatever the file's mode has become.
func (n *node) truncate(h int, size int64, open p9srv.File) linux.Errno {
	if e := n.fs.mayChange(n.ino); e != 0 {
		return e
	}
	if n.ino.kind.IsDir() {
		return linux.EISDIR
	}
	if !n.mode.IsRegular() {
		return linux.EINVAL
	}
	if f, ok := open.(*file); ok && (f.flags.Access() == linux.OWronly || f.flags.Access() == linux.ORdwr) {
		return n.fs.errno(ftruncate(f.fd, size))
	}
	f, e := n.open(linux.OWronly)
	if e != 0 {
		return e
	}
	defer f.Close()
	return n.fs.errno(ftruncate(f.fd, size))
}

// when is a time to set: left alone, now, or the given one.
type when struct {
	omit, now bool
	at        p9.Time
}

func timeOf(s *p9.SetAttr, wanted, set uint32, t p9.Time) when {
	return when{omit: wanted == 0, now: s.Valid&set == 0, at: t}
}

// setOwner changes owner and mode, the host's own or the stored ones.
func (fs *FS) setOwner(h int, kind linux.Mode, s *p9.SetAttr) linux.Errno {
	if fs.cfg.Mapped {
		return fs.storeOwner(h, s)
	}
	if s.Valid&(p9.SetUID|p9.SetGID) != 0 {
		uid, gid := -1, -1
		if s.Valid&p9.SetUID != 0 {
			uid = int(s.UID)
		}
		if s.Valid&p9.SetGID != 0 {
			gid = int(s.GID)
		}
		if err := chown(h, uid, gid); err != nil {
			return fs.errno(err)
		}
	}
	if s.Valid&p9.SetMode == 0 {
		return 0
	}
	if kind.IsSymlink() {
		return linux.EOPNOTSUPP
	}
	return fs.errno(chmod(h, s.Mode.Perm()))
}

// imprint gives the file that was just made, of which st tells, the owner and
// mode it is to have, and corrects st.
func (fs *FS) imprint(h int, st *stat, b birth) linux.Errno {
	if fs.cfg.Mapped {
		return fs.imprintStored(h, st, b)
	}
	if st.uid != b.uid || st.gid != b.gid {
		if err := chown(h, int(b.uid), int(b.gid)); err != nil {
			return fs.errno(err)
		}
		// chown has cleared these.
		st.mode &^= linux.SetUID | linux.SetGID
		st.uid, st.gid = b.uid, b.gid
	}
	if st.mode.Perm() != b.mode.Perm() && !st.mode.IsSymlink() {
		if err := chmod(h, b.mode.Perm()); err != nil {
			return fs.errno(err)
		}
		st.mode = st.mode.Type() | b.mode.Perm()
	}
	return 0
}

// hostMode is the mode that a file of mode m is made with on the host. Where
// metadata is mapped the server must be able to open it, and what is neither
// file nor directory nor link is an empty file.
func (fs *FS) hostMode(m linux.Mode) linux.Mode {
	if !fs.cfg.Mapped {
		return m
	}
	perm := m & 0o777
	if m.IsDir() {
		return linux.TypeDir | perm | 0o700
	}
	return linux.TypeRegular | perm | 0o600
}
