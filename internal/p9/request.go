// SPDX-License-Identifier: Apache-2.0

package p9

import "byre.dev/byre/internal/linux"

// Tstatfs asks for the state of the file system that FID is on.
type Tstatfs struct {
	FID uint32
}

// Type returns [TypeTstatfs].
func (*Tstatfs) Type() Type { return TypeTstatfs }

func (m *Tstatfs) encode(b []byte) []byte {
	return put32(b, m.FID)
}

func (m *Tstatfs) decode(d *decoder) {
	m.FID = d.u32()
}

// Tlopen asks to open FID.
type Tlopen struct {
	FID   uint32
	Flags linux.OpenFlags
}

// Type returns [TypeTlopen].
func (*Tlopen) Type() Type { return TypeTlopen }

func (m *Tlopen) encode(b []byte) []byte {
	b = put32(b, m.FID)
	return put32(b, uint32(m.Flags))
}

func (m *Tlopen) decode(d *decoder) {
	m.FID = d.u32()
	m.Flags = linux.OpenFlags(d.u32())
}

// Tlcreate asks to create Name in the directory FID, which becomes the open file.
type Tlcreate struct {
	FID   uint32
	Name  string
	Flags linux.OpenFlags
	Mode  linux.Mode
	GID   uint32
}

// Type returns [TypeTlcreate].
func (*Tlcreate) Type() Type { return TypeTlcreate }

func (m *Tlcreate) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = putStr(b, m.Name)
	b = put32(b, uint32(m.Flags))
	b = put32(b, uint32(m.Mode))
	return put32(b, m.GID)
}

func (m *Tlcreate) decode(d *decoder) {
	m.FID = d.u32()
	m.Name = d.str()
	m.Flags = linux.OpenFlags(d.u32())
	m.Mode = linux.Mode(d.u32())
	m.GID = d.u32()
}

// Tsymlink asks for a symbolic link.
type Tsymlink struct {
	FID    uint32
	Name   string
	Target string
	GID    uint32
}

// Type returns [TypeTsymlink].
func (*Tsymlink) Type() Type { return TypeTsymlink }

func (m *Tsymlink) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = putStr(b, m.Name)
	b = putStr(b, m.Target)
	return put32(b, m.GID)
}

func (m *Tsymlink) decode(d *decoder) {
	m.FID = d.u32()
	m.Name = d.str()
	m.Target = d.str()
	m.GID = d.u32()
}

// Tmknod asks for a device, FIFO, socket or empty file.
type Tmknod struct {
	FID   uint32
	Name  string
	Mode  linux.Mode
	Major uint32
	Minor uint32
	GID   uint32
}

// Type returns [TypeTmknod].
func (*Tmknod) Type() Type { return TypeTmknod }

func (m *Tmknod) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = putStr(b, m.Name)
	b = put32(b, uint32(m.Mode))
	b = put32(b, m.Major)
	b = put32(b, m.Minor)
	return put32(b, m.GID)
}

func (m *Tmknod) decode(d *decoder) {
	m.FID = d.u32()
	m.Name = d.str()
	m.Mode = linux.Mode(d.u32())
	m.Major = d.u32()
	m.Minor = d.u32()
	m.GID = d.u32()
}

// Trename asks to move the file FID into the directory DirFID.
type Trename struct {
	FID    uint32
	DirFID uint32
	Name   string
}

// Type returns [TypeTrename].
func (*Trename) Type() Type { return TypeTrename }

func (m *Trename) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.DirFID)
	return putStr(b, m.Name)
}

func (m *Trename) decode(d *decoder) {
	m.FID = d.u32()
	m.DirFID = d.u32()
	m.Name = d.str()
}

// Treadlink asks for the target of a symbolic link.
type Treadlink struct {
	FID uint32
}

// Type returns [TypeTreadlink].
func (*Treadlink) Type() Type { return TypeTreadlink }

func (m *Treadlink) encode(b []byte) []byte {
	return put32(b, m.FID)
}

func (m *Treadlink) decode(d *decoder) {
	m.FID = d.u32()
}

// Tgetattr asks for the attributes of FID that Mask names.
type Tgetattr struct {
	FID  uint32
	Mask uint64
}

// Type returns [TypeTgetattr].
func (*Tgetattr) Type() Type { return TypeTgetattr }

func (m *Tgetattr) encode(b []byte) []byte {
	b = put32(b, m.FID)
	return put64(b, m.Mask)
}

func (m *Tgetattr) decode(d *decoder) {
	m.FID = d.u32()
	m.Mask = d.u64()
}

// Tsetattr asks to change attributes of FID.
type Tsetattr struct {
	FID uint32
	SetAttr
}

// Type returns [TypeTsetattr].
func (*Tsetattr) Type() Type { return TypeTsetattr }

func (m *Tsetattr) encode(b []byte) []byte {
	b = put32(b, m.FID)
	return putSetAttr(b, &m.SetAttr)
}

func (m *Tsetattr) decode(d *decoder) {
	m.FID = d.u32()
	d.setAttr(&m.SetAttr)
}

// Txattrwalk asks to open an extended attribute, or with no name their list, as NewFID.
type Txattrwalk struct {
	FID    uint32
	NewFID uint32
	Name   string
}

// Type returns [TypeTxattrwalk].
func (*Txattrwalk) Type() Type { return TypeTxattrwalk }

func (m *Txattrwalk) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.NewFID)
	return putStr(b, m.Name)
}

func (m *Txattrwalk) decode(d *decoder) {
	m.FID = d.u32()
	m.NewFID = d.u32()
	m.Name = d.str()
}

// Txattrcreate asks to turn FID into an attribute that writes fill and clunk sets.
type Txattrcreate struct {
	FID   uint32
	Name  string
	Size  uint64
	Flags uint32
}

// Type returns [TypeTxattrcreate].
func (*Txattrcreate) Type() Type { return TypeTxattrcreate }

func (m *Txattrcreate) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = putStr(b, m.Name)
	b = put64(b, m.Size)
	return put32(b, m.Flags)
}

func (m *Txattrcreate) decode(d *decoder) {
	m.FID = d.u32()
	m.Name = d.str()
	m.Size = d.u64()
	m.Flags = d.u32()
}

// Treaddir asks for directory entries that follow the cookie Offset.
type Treaddir struct {
	FID    uint32
	Offset uint64
	Count  uint32
}

// Type returns [TypeTreaddir].
func (*Treaddir) Type() Type { return TypeTreaddir }

func (m *Treaddir) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put64(b, m.Offset)
	return put32(b, m.Count)
}

func (m *Treaddir) decode(d *decoder) {
	m.FID = d.u32()
	m.Offset = d.u64()
	m.Count = d.u32()
}

// Tfsync asks to make FID durable; Datasync spares what reading does not need.
type Tfsync struct {
	FID      uint32
	Datasync uint32
}

// Type returns [TypeTfsync].
func (*Tfsync) Type() Type { return TypeTfsync }

func (m *Tfsync) encode(b []byte) []byte {
	b = put32(b, m.FID)
	return put32(b, m.Datasync)
}

func (m *Tfsync) decode(d *decoder) {
	m.FID = d.u32()
	m.Datasync = d.optional32()
}

// Tlock asks to lock or unlock a byte range.
type Tlock struct {
	FID      uint32
	LType    uint8
	Flags    uint32
	Start    uint64
	Length   uint64
	ProcID   uint32
	ClientID string
}

// Type returns [TypeTlock].
func (*Tlock) Type() Type { return TypeTlock }

func (m *Tlock) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = append(b, m.LType)
	b = put32(b, m.Flags)
	b = put64(b, m.Start)
	b = put64(b, m.Length)
	b = put32(b, m.ProcID)
	return putStr(b, m.ClientID)
}

func (m *Tlock) decode(d *decoder) {
	m.FID = d.u32()
	m.LType = d.u8()
	m.Flags = d.u32()
	m.Start = d.u64()
	m.Length = d.u64()
	m.ProcID = d.u32()
	m.ClientID = d.str()
}

// Tgetlock asks which lock stands in the way of the one described.
type Tgetlock struct {
	FID uint32
	Lock
}

// Type returns [TypeTgetlock].
func (*Tgetlock) Type() Type { return TypeTgetlock }

func (m *Tgetlock) encode(b []byte) []byte {
	b = put32(b, m.FID)
	return putLock(b, &m.Lock)
}

func (m *Tgetlock) decode(d *decoder) {
	m.FID = d.u32()
	d.lock(&m.Lock)
}

// Tlink asks for another name of the file FID in the directory DirFID.
type Tlink struct {
	DirFID uint32
	FID    uint32
	Name   string
}

// Type returns [TypeTlink].
func (*Tlink) Type() Type { return TypeTlink }

func (m *Tlink) encode(b []byte) []byte {
	b = put32(b, m.DirFID)
	b = put32(b, m.FID)
	return putStr(b, m.Name)
}

func (m *Tlink) decode(d *decoder) {
	m.DirFID = d.u32()
	m.FID = d.u32()
	m.Name = d.str()
}

// Tmkdir asks for a directory.
type Tmkdir struct {
	DirFID uint32
	Name   string
	Mode   linux.Mode
	GID    uint32
}

// Type returns [TypeTmkdir].
func (*Tmkdir) Type() Type { return TypeTmkdir }

func (m *Tmkdir) encode(b []byte) []byte {
	b = put32(b, m.DirFID)
	b = putStr(b, m.Name)
	b = put32(b, uint32(m.Mode))
	return put32(b, m.GID)
}

func (m *Tmkdir) decode(d *decoder) {
	m.DirFID = d.u32()
	m.Name = d.str()
	m.Mode = linux.Mode(d.u32())
	m.GID = d.u32()
}

// Trenameat asks to move a name from directory to directory.
type Trenameat struct {
	OldDirFID uint32
	OldName   string
	NewDirFID uint32
	NewName   string
}

// Type returns [TypeTrenameat].
func (*Trenameat) Type() Type { return TypeTrenameat }

func (m *Trenameat) encode(b []byte) []byte {
	b = put32(b, m.OldDirFID)
	b = putStr(b, m.OldName)
	b = put32(b, m.NewDirFID)
	return putStr(b, m.NewName)
}

func (m *Trenameat) decode(d *decoder) {
	m.OldDirFID = d.u32()
	m.OldName = d.str()
	m.NewDirFID = d.u32()
	m.NewName = d.str()
}

// Tunlinkat asks to remove a name from a directory.
type Tunlinkat struct {
	DirFID uint32
	Name   string
	Flags  uint32
}

// Type returns [TypeTunlinkat].
func (*Tunlinkat) Type() Type { return TypeTunlinkat }

func (m *Tunlinkat) encode(b []byte) []byte {
	b = put32(b, m.DirFID)
	b = putStr(b, m.Name)
	return put32(b, m.Flags)
}

func (m *Tunlinkat) decode(d *decoder) {
	m.DirFID = d.u32()
	m.Name = d.str()
	m.Flags = d.u32()
}
