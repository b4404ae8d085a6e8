// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// stat is what the host, and stored metadata, tell of a file.
type stat struct {
	id                         fileID
	mode                       linux.Mode
	uid, gid                   uint32
	nlink                      uint64
	major, minor               uint32
	size, blocks               uint64
	blockSize                  uint32
	atime, mtime, ctime, btime p9.Time
}

// qid makes the QID of the file st tells of.
func (fs *FS) qid(id fileID, mode linux.Mode) p9.QID {
	return p9.QID{
		Type:    p9.QIDType(mode),
		Version: uint32(fold(uint64(id.birth))) | 1,
		Path:    fs.qidPath(id.dev, id.ino),
	}
}

// qidPath is the inode number on the root's own device, and a hash with the
// highest bit set on those mounted below it.
func (fs *FS) qidPath(dev, ino uint64) uint64 {
	if dev == fs.root.id.dev {
		return ino
	}
	return fold(ino^fold(dev)) | 1<<63
}

// fold mixes the bits of x (the finalizer of MurmurHash3).
func fold(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// fill turns st into attributes.
func (fs *FS) fill(st *stat, a *p9.Attr) {
	a.Valid = p9.AttrAll
	a.QID = fs.qid(st.id, st.mode)
	a.Mode, a.UID, a.GID = st.mode, st.uid, st.gid
	a.Nlink, a.Size = st.nlink, st.size
	a.Rdev = makedev(st.major, st.minor)
	a.BlockSize, a.Blocks = uint64(st.blockSize), st.blocks
	a.Atime, a.Mtime, a.Ctime, a.Btime = st.atime, st.mtime, st.ctime, st.btime
	a.Gen = uint64(a.QID.Version)
	a.DataVersion = uint64(st.ctime.Sec)*1e9 + uint64(st.ctime.Nsec)
	if st.id.birth == 0 {
		a.Valid &^= p9.AttrBtime
	}
}

// makedev is new_encode_dev of Linux, which is what its client decodes.
func makedev(major, minor uint32) uint64 {
	return uint64(minor&0xff | major<<8 | minor&^0xff<<12)
}

// stat tells of i, through its handle if there is one.
func (fs *FS) stat(i *inode, st *stat) linux.Errno {
	for {
		if fd, ok := fs.pin(i); ok {
			defer fs.unpin(i)
			return fs.statPlace(fd, "", st)
		}
		dir, name, e := fs.where(i)
		if e != 0 {
			return e
		}
		e = fs.statIn(i, dir, name, st)
		again := e == linux.ESTALE && fs.moved(i, dir, name)
		fs.unref(dir)
		if !again {
			return e
		}
	}
}

// statIn tells of name in dir, which must be i.
func (fs *FS) statIn(i, dir *inode, name string, st *stat) linux.Errno {
	dfd, e := fs.acquire(dir)
	if e != 0 {
		return e
	}
	defer fs.unpin(dir)
	if e := fs.statPlace(dfd, name, st); e != 0 {
		return stale(e)
	}
	if st.id != i.id {
		return linux.ESTALE
	}
	return 0
}

// statPlace tells of a name in a directory, or with none of the handle's own
// file, stored metadata included.
func (fs *FS) statPlace(fd int, name string, st *stat) linux.Errno {
	if err := statAt(fd, name, st); err != nil {
		return fs.errno(err)
	}
	if fs.cfg.Mapped {
		return fs.overlay(fd, name, st)
	}
	return 0
}
