// SPDX-License-Identifier: Apache-2.0

package p9

// The requests that 9P2000.L has from 9P2000.

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
