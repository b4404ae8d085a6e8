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

// Tversion asks to begin a session.
type Tversion struct {
	Msize   uint32
	Version string
}

// Type returns [TypeTversion].
func (*Tversion) Type() Type { return TypeTversion }

func (m *Tversion) encode(b []byte) []byte {
	b = put32(b, m.Msize)
	return putStr(b, m.Version)
}

func (m *Tversion) decode(d *decoder) {
	m.Msize = d.u32()
	m.Version = d.str()
}

// Tauth asks for a fid to authenticate over.
type Tauth struct {
	AFID   uint32
	Uname  string
	Aname  string
	NUname uint32
}

// Type returns [TypeTauth].
func (*Tauth) Type() Type { return TypeTauth }

func (m *Tauth) encode(b []byte) []byte {
	b = put32(b, m.AFID)
	b = putStr(b, m.Uname)
	b = putStr(b, m.Aname)
	return put32(b, m.NUname)
}

func (m *Tauth) decode(d *decoder) {
	m.AFID = d.u32()
	m.Uname = d.str()
	m.Aname = d.str()
	m.NUname = d.u32()
}

// Tattach asks for the root of a tree.
type Tattach struct {
	FID    uint32
	AFID   uint32
	Uname  string
	Aname  string
	NUname uint32
}

// Type returns [TypeTattach].
func (*Tattach) Type() Type { return TypeTattach }

func (m *Tattach) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.AFID)
	b = putStr(b, m.Uname)
	b = putStr(b, m.Aname)
	return put32(b, m.NUname)
}

func (m *Tattach) decode(d *decoder) {
	m.FID = d.u32()
	m.AFID = d.u32()
	m.Uname = d.str()
	m.Aname = d.str()
	m.NUname = d.u32()
}

// Tflush asks to give up the request with OldTag.
type Tflush struct {
	OldTag uint16
}

// Type returns [TypeTflush].
func (*Tflush) Type() Type { return TypeTflush }

func (m *Tflush) encode(b []byte) []byte {
	return put16(b, m.OldTag)
}

func (m *Tflush) decode(d *decoder) {
	m.OldTag = d.u16()
}

// Twalk asks to walk Names from FID to NewFID.
type Twalk struct {
	FID    uint32
	NewFID uint32
	Names  []string
}

// Type returns [TypeTwalk].
func (*Twalk) Type() Type { return TypeTwalk }

func (m *Twalk) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put32(b, m.NewFID)
	return putNames(b, m.Names)
}

func (m *Twalk) decode(d *decoder) {
	m.FID = d.u32()
	m.NewFID = d.u32()
	m.Names = d.names(m.Names[:0])
}

// Tread asks for bytes of a file.
type Tread struct {
	FID    uint32
	Offset uint64
	Count  uint32
}

// Type returns [TypeTread].
func (*Tread) Type() Type { return TypeTread }

func (m *Tread) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put64(b, m.Offset)
	return put32(b, m.Count)
}

func (m *Tread) decode(d *decoder) {
	m.FID = d.u32()
	m.Offset = d.u64()
	m.Count = d.u32()
}

// Twrite asks to write bytes.
type Twrite struct {
	FID    uint32
	Offset uint64
	Data   []byte
}

// Type returns [TypeTwrite].
func (*Twrite) Type() Type { return TypeTwrite }

func (m *Twrite) encode(b []byte) []byte {
	b = put32(b, m.FID)
	b = put64(b, m.Offset)
	return putData(b, m.Data)
}

func (m *Twrite) decode(d *decoder) {
	m.FID = d.u32()
	m.Offset = d.u64()
	m.Data = d.data()
}

// Tclunk asks to forget FID.
type Tclunk struct {
	FID uint32
}

// Type returns [TypeTclunk].
func (*Tclunk) Type() Type { return TypeTclunk }

func (m *Tclunk) encode(b []byte) []byte {
	return put32(b, m.FID)
}

func (m *Tclunk) decode(d *decoder) {
	m.FID = d.u32()
}

// Tremove asks to remove the file and forget FID.
type Tremove struct {
	FID uint32
}

// Type returns [TypeTremove].
func (*Tremove) Type() Type { return TypeTremove }

func (m *Tremove) encode(b []byte) []byte {
	return put32(b, m.FID)
}

func (m *Tremove) decode(d *decoder) {
	m.FID = d.u32()
}
