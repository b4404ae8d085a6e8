// SPDX-License-Identifier: Apache-2.0

// Package p9 is the 9P2000.L protocol as Linux's client speaks it: the
// messages and their encoding, nothing else. It has no state and does no I/O.
//
// A frame is size[4] type[1] tag[2] body, little-endian; size counts itself.
// [AppendFrame] makes one; [Header] and [Message.Decode] take one apart.
// Decoding checks every length against what is there before it allocates, so
// a frame can make the decoder allocate no more than a small multiple of its
// own size.
package p9

import "byre.dev/byre/internal/linux"

// Version is the only protocol version that is spoken here.
const Version = "9P2000.L"

// VersionUnknown answers a Tversion that names any other.
const VersionUnknown = "unknown"

// Reserved values of the protocol.
const (
	// NoTag is the tag of Tversion.
	NoTag uint16 = 0xffff
	// NoFID stands for "no fid" in Tattach.
	NoFID uint32 = 0xffffffff
	// NoUname stands for "no numeric user" in Tattach.
	NoUname uint32 = 0xffffffff
)

// Sizes of the protocol.
const (
	// HeaderSize is what precedes the body of every frame.
	HeaderSize = 7
	// IOHeaderSize is what Linux keeps free of msize for the header of a
	// read or write.
	IOHeaderSize = 24
	// MaxWalk is how many names one Twalk may carry.
	MaxWalk = 16
	// MinMsize is the smallest msize that is agreed to.
	MinMsize = 4096
	// MaxMsize is the largest msize that is agreed to.
	MaxMsize = 1<<20 + 4096
	// ReadHeaderSize is what precedes the data in an Rread or Rreaddir frame.
	ReadHeaderSize = HeaderSize + 4
	// OpendirHeaderSize is what precedes the entries in an Ropendir frame.
	OpendirHeaderSize = HeaderSize + 13 + 4 + 4
	// WriteHeaderSize is what precedes the data in a Twrite frame.
	WriteHeaderSize = HeaderSize + 16
)

// QID type bits.
const (
	QTDir     uint8 = 0x80
	QTAppend  uint8 = 0x40
	QTExcl    uint8 = 0x20
	QTAuth    uint8 = 0x08
	QTTmp     uint8 = 0x04
	QTSymlink uint8 = 0x02
	QTFile    uint8 = 0x00
)

// QID is a server's name for a file: two files are the same if type and path
// are. Linux's client takes version 0 to mean "do not cache".
type QID struct {
	Type    uint8
	Version uint32
	Path    uint64
}

// QIDType returns the QID type of a file with mode m.
func QIDType(m linux.Mode) uint8 {
	switch m.Type() {
	case linux.TypeDir:
		return QTDir
	case linux.TypeSymlink:
		return QTSymlink
	}
	return QTFile
}

// Bits of Tgetattr's mask and Rgetattr's valid.
const (
	AttrMode uint64 = 1 << iota
	AttrNlink
	AttrUID
	AttrGID
	AttrRdev
	AttrAtime
	AttrMtime
	AttrCtime
	AttrIno
	AttrSize
	AttrBlocks
	AttrBtime
	AttrGen
	AttrDataVersion
	// AttrBasic is what stat(2) tells.
	AttrBasic uint64 = 0x7ff
	// AttrAll is every bit that 9P2000.L has.
	AttrAll uint64 = 0x3fff
	// AttrNoACL is a bit of our own (kernel/patches/0011): a patched Linux asks
	// with it whether a file has POSIX access lists, and the answer's bit says
	// that it has none. Other clients never ask.
	AttrNoACL uint64 = 1 << 32
	// AttrMore is another (kernel/patches/0013): asked of a root, and answered
	// by a server that takes the requests from Tlookup on.
	AttrMore uint64 = 1 << 33
)

// Bits of Tsetattr's valid. A time without its Set bit means the server's
// present.
const (
	SetMode uint32 = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
	SetCtime
	SetAtimeSet
	SetMtimeSet
)

// Ends of a lock's ClientID by which a patched Linux says that the lock is an
// open file's, not a process's: flock(2) locks a file in a space of its own,
// open file description locks share the byte ranges of fcntl(2).
const (
	LockClientFlock = "/flock"
	LockClientOFD   = "/ofd"
)

// Lock types, flags and answers.
const (
	LockRead   uint8 = 0
	LockWrite  uint8 = 1
	LockUnlock uint8 = 2

	LockFlagBlock   uint32 = 1
	LockFlagReclaim uint32 = 2

	LockSuccess uint8 = 0
	LockBlocked uint8 = 1
	LockError   uint8 = 2
	LockGrace   uint8 = 3
)

// Time is a moment as struct timespec has it.
type Time struct {
	Sec  int64
	Nsec int64
}

// Attr is what Rgetattr tells of a file.
type Attr struct {
	Valid       uint64
	QID         QID
	Mode        linux.Mode
	UID         uint32
	GID         uint32
	Nlink       uint64
	Rdev        uint64
	Size        uint64
	BlockSize   uint64
	Blocks      uint64
	Atime       Time
	Mtime       Time
	Ctime       Time
	Btime       Time
	Gen         uint64
	DataVersion uint64
}

// SetAttr is what Tsetattr asks for; Valid says which fields count.
type SetAttr struct {
	Valid uint32
	Mode  linux.Mode
	UID   uint32
	GID   uint32
	Size  uint64
	Atime Time
	Mtime Time
}

// Statfs is what Rstatfs tells of a file system.
type Statfs struct {
	Type    uint32
	Bsize   uint32
	Blocks  uint64
	Bfree   uint64
	Bavail  uint64
	Files   uint64
	Ffree   uint64
	FSID    uint64
	NameLen uint32
}

// Lock is a byte range that Tlock asks for and Rgetlock tells of.
type Lock struct {
	Type     uint8
	Start    uint64
	Length   uint64
	ProcID   uint32
	ClientID string
}
