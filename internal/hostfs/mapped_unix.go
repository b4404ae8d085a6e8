// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"fmt"
	"strconv"
	"strings"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Names of the attributes that hold what an unprivileged server cannot give
// the host's file. The first is what podman and libkrun use as well:
// "uid:gid:0mode" with mode in octal, file type included.
const (
	attrOverride = "user.containers.override_stat"
	attrRdev     = "user.byre.rdev"
	// attrHidden begins the names of privileged attributes, as in
	// user.byre.trusted.overlay.opaque.
	attrHidden = "user.byre."
)

// stored is the metadata kept beside a file.
type stored struct {
	uid, gid uint32
	mode     linux.Mode
}

func (s stored) String() string {
	return fmt.Sprintf("%d:%d:0%o", s.uid, s.gid, uint32(s.mode))
}

// parseStored reads an override_stat; what podman adds after the mode does
// not matter here.
func parseStored(v string) (stored, bool) {
	part := strings.SplitN(v, ":", 4)
	if len(part) < 3 {
		return stored{}, false
	}
	uid, err1 := strconv.ParseUint(part[0], 10, 32)
	gid, err2 := strconv.ParseUint(part[1], 10, 32)
	mode, err3 := strconv.ParseUint(part[2], 8, 32)
	if err1 != nil || err2 != nil || err3 != nil || mode > 0o177777 {
		return stored{}, false
	}
	return stored{uint32(uid), uint32(gid), linux.Mode(mode)}, true
}

// fits says whether s can be of a file that is of type host: a special file
// is an empty regular one on the host. Older tools leave the type out.
func (s stored) fits(host linux.Mode) bool {
	typ := s.mode.Type()
	return typ == 0 || typ == host.Type() || host.IsRegular() && s.mode.IsSpecial()
}

// overlay puts stored metadata over what the host says of a file.
func (fs *FS) overlay(fd int, name string, st *stat) linux.Errno {
	st.uid, st.gid = fs.cfg.UID, fs.cfg.GID
	m, e := fs.load(fd, name, st)
	if e != 0 || m == nil || !m.hasStat || !m.stat.fits(st.mode) {
		return e
	}
	s := m.stat
	st.uid, st.gid = s.uid, s.gid
	if st.mode.IsSymlink() {
		return 0
	}
	typ := st.mode.Type()
	if s.mode.IsSpecial() {
		typ = s.mode.Type()
	}
	st.mode = typ | s.mode.Perm()
	if typ == linux.TypeChar || typ == linux.TypeBlock {
		st.major, st.minor = m.major, m.minor
	}
	return 0
}

// carries says whether files of a host's type can have extended attributes.
func (fs *FS) carries(host linux.Mode) bool {
	return !fs.cfg.SidecarOnly && !host.IsSymlink()
}

// load reads stored metadata, nil if there is none. st tells what the host
// says of the file.
func (fs *FS) load(fd int, name string, st *stat) (*meta, linux.Errno) {
	if !fs.carries(st.mode) || !st.mode.IsRegular() && !st.mode.IsDir() {
		return fs.side.get(st.id), 0
	}
	v, err := getxattr(fd, name, attrOverride)
	switch e := fs.errno(err); e {
	case 0:
	case linux.ENODATA:
		return nil, 0
	case linux.EOPNOTSUPP:
		return fs.side.get(st.id), 0
	default:
		return nil, e
	}
	m := new(meta)
	m.stat, m.hasStat = parseStored(string(v))
	if m.stat.mode.Type() == linux.TypeChar || m.stat.mode.Type() == linux.TypeBlock {
		if v, err := getxattr(fd, name, attrRdev); err == nil {
			fmt.Sscanf(string(v), "%d:%d", &m.major, &m.minor)
		}
	}
	return m, 0
}

// save stores owner and mode of a file whose type, as st has it, may be the
// guest's.
func (fs *FS) save(h int, st *stat, s stored) linux.Errno {
	if fs.carries(st.mode) {
		e := fs.errno(setxattr(h, attrOverride, []byte(s.String()), 0))
		if e != linux.EOPNOTSUPP {
			return e
		}
	}
	return fs.errno(fs.side.put(st.id, statRecord(s)))
}

// lastName returns the identity of a file whose last name this is, if there is
// something in the sidecar to be forgotten with it.
func (fs *FS) lastName(dfd int, name string) fileID {
	var st stat
	if !fs.cfg.Mapped || !fs.side.holdsAny() || statAt(dfd, name, &st) != nil {
		return fileID{}
	}
	if st.nlink > 1 && !st.mode.IsDir() || fs.side.get(st.id) == nil {
		return fileID{}
	}
	return st.id
}

// forget notes that a file has no name any more. What a failure leaves behind
// is found by a sweep.
func (fs *FS) forget(id fileID) {
	if id != (fileID{}) {
		_ = fs.side.put(id, record{verb: verbGone})
	}
}

// storeOwner is chown and chmod on stored metadata.
func (fs *FS) storeOwner(h int, a *p9.SetAttr) linux.Errno {
	fs.metaMu.Lock()
	defer fs.metaMu.Unlock()
	var st stat
	if e := fs.statPlace(h, "", &st); e != 0 {
		return e
	}
	if st.mode.IsSymlink() && a.Valid&p9.SetMode != 0 {
		return linux.EOPNOTSUPP
	}
	s := stored{st.uid, st.gid, st.mode}
	if a.Valid&(p9.SetUID|p9.SetGID) != 0 {
		s.chown(a)
	}
	if a.Valid&p9.SetMode != 0 {
		s.mode = s.mode.Type() | a.Mode.Perm()
		host := fs.hostMode(s.mode).Perm()
		if err := chmod(h, host); err != nil {
			return fs.errno(err)
		}
	}
	return fs.save(h, &st, s)
}

// chown sets the owner and clears the set-id bits of what is executable, as
// the kernel does.
func (s *stored) chown(a *p9.SetAttr) {
	if a.Valid&p9.SetUID != 0 {
		s.uid = a.UID
	}
	if a.Valid&p9.SetGID != 0 {
		s.gid = a.GID
	}
	if s.mode.IsDir() {
		return
	}
	s.mode &^= linux.SetUID
	if s.mode&0o010 != 0 {
		s.mode &^= linux.SetGID
	}
}

// imprintStored is imprint with stored metadata.
func (fs *FS) imprintStored(h int, st *stat, b birth) linux.Errno {
	if !b.mode.IsSymlink() {
		if host := fs.hostMode(b.mode).Perm(); st.mode.Perm() != host {
			if err := chmod(h, host); err != nil {
				return fs.errno(err)
			}
		}
	}
	e := fs.imprintNew(h, st, b)
	st.uid, st.gid = b.uid, b.gid
	if !b.mode.IsSymlink() {
		st.mode = b.mode
	}
	return e
}

// imprintNew stores the metadata of a file that was just made: device numbers
// before the type that gives them a meaning.
func (fs *FS) imprintNew(h int, st *stat, b birth) linux.Errno {
	s := stored{b.uid, b.gid, b.mode}
	typ := b.mode.Type()
	device := typ == linux.TypeChar || typ == linux.TypeBlock
	if fs.carries(st.mode) {
		var err error
		if device {
			err = setxattr(h, attrRdev, fmt.Appendf(nil, "%d:%d", b.major, b.minor), 0)
		}
		if err == nil {
			err = setxattr(h, attrOverride, []byte(s.String()), 0)
		}
		if e := fs.errno(err); e != linux.EOPNOTSUPP {
			return e
		}
	}
	if b.mode.IsSymlink() && b.uid == fs.cfg.UID && b.gid == fs.cfg.GID && fs.side.get(st.id) == nil {
		return 0
	}
	// Where files have no time of birth, what is there is of a file that had
	// this one's number.
	changes := []record{{verb: verbGone}, statRecord(s)}
	if device {
		changes = append(changes, rdevRecord(b.major, b.minor))
	}
	return fs.errno(fs.side.put(st.id, changes...))
}

// unlock makes a file that the host's user has closed to himself openable,
// after storing the mode that it shows: in the guest root may open all files,
// and who may not was told so by the guest's kernel already.
func (fs *FS) unlock(h int) linux.Errno {
	if fs.cfg.ReadOnly {
		return linux.EACCES
	}
	fs.metaMu.Lock()
	defer fs.metaMu.Unlock()
	var st stat
	if e := fs.statPlace(h, "", &st); e != 0 {
		return e
	}
	if e := fs.errno(chmod(h, fs.hostMode(st.mode).Perm())); e != 0 {
		return e
	}
	return fs.save(h, &st, stored{st.uid, st.gid, st.mode})
}

// mappedType returns the DT value of a name that the host lists as a regular
// file.
func (fs *FS) mappedType(dfd int, name string) uint8 {
	if !fs.cfg.SidecarOnly {
		v, err := getxattr(dfd, name, attrOverride)
		if err == nil {
			s, ok := parseStored(string(v))
			if ok && s.mode.IsSpecial() {
				return s.mode.DirentType()
			}
			return linux.DTRegular
		}
		if fs.errno(err) != linux.EOPNOTSUPP {
			return linux.DTRegular
		}
	}
	var st stat
	if !fs.side.holdsAny() || statAt(dfd, name, &st) != nil {
		return linux.DTRegular
	}
	if m := fs.side.get(st.id); m != nil && m.hasStat && m.stat.mode.IsSpecial() {
		return m.stat.mode.DirentType()
	}
	return linux.DTRegular
}
