// SPDX-License-Identifier: Apache-2.0

package p9

import "byre.dev/byre/internal/linux"

// names decodes Twalk's names into list, which it reuses.
func (d *decoder) names(list []string) []string {
	n := int(d.u16())
	if n > MaxWalk {
		d.bad = true
	}
	for i := 0; i < n && !d.bad; i++ {
		list = append(list, d.str())
	}
	return list
}

func putNames(b []byte, names []string) []byte {
	b = put16(b, uint16(len(names)))
	for _, s := range names {
		b = putStr(b, s)
	}
	return b
}

// qids decodes Rwalk's QIDs into list, which it reuses.
func (d *decoder) qids(list []QID) []QID {
	n := int(d.u16())
	if n > MaxWalk {
		d.bad = true
	}
	for i := 0; i < n && !d.bad; i++ {
		list = append(list, d.qid())
	}
	return list
}

func putQIDs(b []byte, qids []QID) []byte {
	b = put16(b, uint16(len(qids)))
	for _, q := range qids {
		b = putQID(b, q)
	}
	return b
}

// optional32 is a last field that old clients do not send.
func (d *decoder) optional32() uint32 {
	if !d.bad && len(d.b) == 0 {
		return 0
	}
	return d.u32()
}

func (d *decoder) statfs(s *Statfs) {
	s.Type, s.Bsize = d.u32(), d.u32()
	s.Blocks, s.Bfree, s.Bavail = d.u64(), d.u64(), d.u64()
	s.Files, s.Ffree, s.FSID = d.u64(), d.u64(), d.u64()
	s.NameLen = d.u32()
}

func putStatfs(b []byte, s *Statfs) []byte {
	b = put32(put32(b, s.Type), s.Bsize)
	for _, v := range [...]uint64{s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree, s.FSID} {
		b = put64(b, v)
	}
	return put32(b, s.NameLen)
}

func (d *decoder) attr(a *Attr) {
	a.Valid, a.QID, a.Mode = d.u64(), d.qid(), linux.Mode(d.u32())
	a.UID, a.GID = d.u32(), d.u32()
	a.Nlink, a.Rdev, a.Size = d.u64(), d.u64(), d.u64()
	a.BlockSize, a.Blocks = d.u64(), d.u64()
	a.Atime, a.Mtime, a.Ctime, a.Btime = d.time(), d.time(), d.time(), d.time()
	a.Gen, a.DataVersion = d.u64(), d.u64()
}

func putAttr(b []byte, a *Attr) []byte {
	b = put32(putQID(put64(b, a.Valid), a.QID), uint32(a.Mode))
	b = put32(put32(b, a.UID), a.GID)
	for _, v := range [...]uint64{a.Nlink, a.Rdev, a.Size, a.BlockSize, a.Blocks} {
		b = put64(b, v)
	}
	for _, t := range [...]Time{a.Atime, a.Mtime, a.Ctime, a.Btime} {
		b = putTime(b, t)
	}
	return put64(put64(b, a.Gen), a.DataVersion)
}

func (d *decoder) setAttr(s *SetAttr) {
	s.Valid, s.Mode, s.UID, s.GID = d.u32(), linux.Mode(d.u32()), d.u32(), d.u32()
	s.Size, s.Atime, s.Mtime = d.u64(), d.time(), d.time()
}

func putSetAttr(b []byte, s *SetAttr) []byte {
	b = put32(put32(put32(put32(b, s.Valid), uint32(s.Mode)), s.UID), s.GID)
	return putTime(putTime(put64(b, s.Size), s.Atime), s.Mtime)
}

func (d *decoder) lock(l *Lock) {
	l.Type, l.Start, l.Length = d.u8(), d.u64(), d.u64()
	l.ProcID, l.ClientID = d.u32(), d.str()
}

func putLock(b []byte, l *Lock) []byte {
	b = put64(put64(append(b, l.Type), l.Start), l.Length)
	return putStr(put32(b, l.ProcID), l.ClientID)
}
