// SPDX-License-Identifier: Apache-2.0

package p9

import "byre.dev/byre/internal/linux"

// The messages of this file are byre's own, beyond 9P2000.L.

// Tlookup asks for what a directory has under a name: a walk and its
// attributes in one.
type Tlookup struct {
	FID    uint32
	NewFID uint32
	Name   string
	Mask   uint64
}

// Type returns [TypeTlookup].
func (*Tlookup) Type() Type { return TypeTlookup }

func (m *Tlookup) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.NewFID)
	b = putStr(b, m.Name)
	return put64(b, m.Mask)
}

func (m *Tlookup) decode(d *decoder) {
	m.FID = d.u32()
	m.NewFID = d.u32()
	m.Name = d.str()
	m.Mask = d.u64()
}

// Rlookup answers with the attributes of what NewFID refers to now.
type Rlookup struct {
	Attr
}

// Type returns [TypeRlookup].
func (*Rlookup) Type() Type { return TypeRlookup }

func (m *Rlookup) encode(b []byte) []byte {
	return putAttr(b, &m.Attr)
}

func (m *Rlookup) decode(d *decoder) {
	d.attr(&m.Attr)
}

// Topenat asks to open a clone of a fid.
type Topenat struct {
	FID    uint32
	NewFID uint32
	Flags  linux.OpenFlags
}

// Type returns [TypeTopenat].
func (*Topenat) Type() Type { return TypeTopenat }

func (m *Topenat) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.NewFID)
	return put32(b, uint32(m.Flags))
}

func (m *Topenat) decode(d *decoder) {
	m.FID = d.u32()
	m.NewFID = d.u32()
	m.Flags = linux.OpenFlags(d.u32())
}

// Ropenat answers as Rlopen.
type Ropenat struct {
	QID    QID
	IOUnit uint32
}

// Type returns [TypeRopenat].
func (*Ropenat) Type() Type { return TypeRopenat }

func (m *Ropenat) encode(b []byte) []byte {
	b = putQID(b, m.QID)
	return put32(b, m.IOUnit)
}

func (m *Ropenat) decode(d *decoder) {
	m.QID = d.qid()
	m.IOUnit = d.u32()
}

// Tcreateat asks to make and open a file in a directory; NewFID is to be
// the open file.
type Tcreateat struct {
	DirFID uint32
	NewFID uint32
	Name   string
	Flags  linux.OpenFlags
	Mode   linux.Mode
	GID    uint32
	Mask   uint64
}

// Type returns [TypeTcreateat].
func (*Tcreateat) Type() Type { return TypeTcreateat }

func (m *Tcreateat) encode(b []byte) []byte {
	b = put32(b, m.DirFID)
	b = put32(b, m.NewFID)
	b = putStr(b, m.Name)
	b = put32(b, uint32(m.Flags))
	b = put32(b, uint32(m.Mode))
	b = put32(b, m.GID)
	return put64(b, m.Mask)
}

func (m *Tcreateat) decode(d *decoder) {
	m.DirFID = d.u32()
	m.NewFID = d.u32()
	m.Name = d.str()
	m.Flags = linux.OpenFlags(d.u32())
	m.Mode = linux.Mode(d.u32())
	m.GID = d.u32()
	m.Mask = d.u64()
}

// Rcreateat answers as Rlcreate, and with the file's attributes.
type Rcreateat struct {
	Opened QID
	IOUnit uint32
	Attr
}

// Type returns [TypeRcreateat].
func (*Rcreateat) Type() Type { return TypeRcreateat }

func (m *Rcreateat) encode(b []byte) []byte {
	b = putQID(b, m.Opened)
	b = put32(b, m.IOUnit)
	return putAttr(b, &m.Attr)
}

func (m *Rcreateat) decode(d *decoder) {
	m.Opened = d.qid()
	m.IOUnit = d.u32()
	d.attr(&m.Attr)
}

// Trenameat2 asks to move a name with the flags of renameat2(2).
type Trenameat2 struct {
	OldDirFID uint32
	OldName   string
	NewDirFID uint32
	NewName   string
	Flags     uint32
}

// Type returns [TypeTrenameat2].
func (*Trenameat2) Type() Type { return TypeTrenameat2 }

func (m *Trenameat2) encode(b []byte) []byte {
	b = put32(b, m.OldDirFID)
	b = putStr(b, m.OldName)
	b = put32(b, m.NewDirFID)
	b = putStr(b, m.NewName)
	return put32(b, m.Flags)
}

func (m *Trenameat2) decode(d *decoder) {
	m.OldDirFID = d.u32()
	m.OldName = d.str()
	m.NewDirFID = d.u32()
	m.NewName = d.str()
	m.Flags = d.u32()
}

// Rrenameat2 answers with success and no more.
type Rrenameat2 struct{}

// Type returns [TypeRrenameat2].
func (*Rrenameat2) Type() Type { return TypeRrenameat2 }

func (*Rrenameat2) encode(b []byte) []byte { return b }
func (*Rrenameat2) decode(*decoder)        {}

// Tallocate asks for what fallocate(2) does; Mode is its mode.
type Tallocate struct {
	FID    uint32
	Mode   uint32
	Offset uint64
	Length uint64
}

// Type returns [TypeTallocate].
func (*Tallocate) Type() Type { return TypeTallocate }

func (m *Tallocate) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.Mode)
	b = put64(b, m.Offset)
	return put64(b, m.Length)
}

func (m *Tallocate) decode(d *decoder) {
	m.FID = d.u32()
	m.Mode = d.u32()
	m.Offset = d.u64()
	m.Length = d.u64()
}

// Rallocate answers with success and no more.
type Rallocate struct{}

// Type returns [TypeRallocate].
func (*Rallocate) Type() Type { return TypeRallocate }

func (*Rallocate) encode(b []byte) []byte { return b }
func (*Rallocate) decode(*decoder)        {}

// Ttmpfile asks to make and open a file without a name on a directory's
// file system; NewFID is to be the open file.
type Ttmpfile struct {
	DirFID uint32
	NewFID uint32
	Flags  linux.OpenFlags
	Mode   linux.Mode
	GID    uint32
	Mask   uint64
}

// Type returns [TypeTtmpfile].
func (*Ttmpfile) Type() Type { return TypeTtmpfile }

func (m *Ttmpfile) encode(b []byte) []byte {
	b = put32(b, m.DirFID)
	b = put32(b, m.NewFID)
	b = put32(b, uint32(m.Flags))
	b = put32(b, uint32(m.Mode))
	b = put32(b, m.GID)
	return put64(b, m.Mask)
}

func (m *Ttmpfile) decode(d *decoder) {
	m.DirFID = d.u32()
	m.NewFID = d.u32()
	m.Flags = linux.OpenFlags(d.u32())
	m.Mode = linux.Mode(d.u32())
	m.GID = d.u32()
	m.Mask = d.u64()
}

// Rtmpfile answers as Rcreateat.
type Rtmpfile struct {
	Opened QID
	IOUnit uint32
	Attr
}

// Type returns [TypeRtmpfile].
func (*Rtmpfile) Type() Type { return TypeRtmpfile }

func (m *Rtmpfile) encode(b []byte) []byte {
	b = putQID(b, m.Opened)
	b = put32(b, m.IOUnit)
	return putAttr(b, &m.Attr)
}

func (m *Rtmpfile) decode(d *decoder) {
	m.Opened = d.qid()
	m.IOUnit = d.u32()
	d.attr(&m.Attr)
}

// Topendir asks to open a clone of a directory's fid and for the first of its
// entries, up to Count bytes of them.
type Topendir struct {
	FID    uint32
	NewFID uint32
	Flags  linux.OpenFlags
	Count  uint32
}

// Type returns [TypeTopendir].
func (*Topendir) Type() Type { return TypeTopendir }

func (m *Topendir) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.NewFID)
	b = put32(b, uint32(m.Flags))
	return put32(b, m.Count)
}

func (m *Topendir) decode(d *decoder) {
	m.FID = d.u32()
	m.NewFID = d.u32()
	m.Flags = linux.OpenFlags(d.u32())
	m.Count = d.u32()
}

// Ropendir answers as Rlopen, and with entries as [Rreaddir] has them.
type Ropendir struct {
	QID    QID
	IOUnit uint32
	Data   []byte
}

// Type returns [TypeRopendir].
func (*Ropendir) Type() Type { return TypeRopendir }

func (m *Ropendir) encode(b []byte) []byte {
	b = putQID(b, m.QID)
	b = put32(b, m.IOUnit)
	return putData(b, m.Data)
}

func (m *Ropendir) decode(d *decoder) {
	m.QID = d.qid()
	m.IOUnit = d.u32()
	m.Data = d.data()
}

// Tmapped tells that an open file is mapped for writing: its contents are not to
// be changed elsewhere until it is closed.
type Tmapped struct {
	FID uint32
}

// Type returns [TypeTmapped].
func (*Tmapped) Type() Type { return TypeTmapped }

func (m *Tmapped) encode(b []byte) []byte {
	return put32(b, m.FID)
}

func (m *Tmapped) decode(d *decoder) {
	m.FID = d.u32()
}

// Rmapped answers with success and no more.
type Rmapped struct{}

// Type returns [TypeRmapped].
func (*Rmapped) Type() Type { return TypeRmapped }

func (*Rmapped) encode(b []byte) []byte { return b }
func (*Rmapped) decode(*decoder)        {}
