// SPDX-License-Identifier: Apache-2.0

package linux

// Mode is st_mode: a file type and permission bits.
type Mode uint32

// File types, the S_IFMT part of a [Mode].
const (
	TypeMask    Mode = 0o170000
	TypeSocket  Mode = 0o140000
	TypeSymlink Mode = 0o120000
	TypeRegular Mode = 0o100000
	TypeBlock   Mode = 0o060000
	TypeDir     Mode = 0o040000
	TypeChar    Mode = 0o020000
	TypeFIFO    Mode = 0o010000
)

// Permission bits of a [Mode].
const (
	PermMask Mode = 0o7777
	SetUID   Mode = 0o4000
	SetGID   Mode = 0o2000
	Sticky   Mode = 0o1000
)

// Directory entry types, as getdents64 has them.
const (
	DTUnknown = 0
	DTFIFO    = 1
	DTChar    = 2
	DTDir     = 4
	DTBlock   = 6
	DTRegular = 8
	DTSymlink = 10
	DTSocket  = 12
)

// Type returns the file type bits alone.
func (m Mode) Type() Mode { return m & TypeMask }

// Perm returns the permission bits alone, set-id and sticky bits included.
func (m Mode) Perm() Mode { return m & PermMask }

// IsDir says whether m is of a directory.
func (m Mode) IsDir() bool { return m&TypeMask == TypeDir }

// IsRegular says whether m is of a regular file.
func (m Mode) IsRegular() bool { return m&TypeMask == TypeRegular }

// IsSymlink says whether m is of a symbolic link.
func (m Mode) IsSymlink() bool { return m&TypeMask == TypeSymlink }

// IsSpecial says whether m is of a device, a FIFO or a socket.
func (m Mode) IsSpecial() bool {
	switch m & TypeMask {
	case TypeBlock, TypeChar, TypeFIFO, TypeSocket:
		return true
	}
	return false
}

// DirentType returns the DT value that a directory lists for m.
func (m Mode) DirentType() uint8 { return uint8(m & TypeMask >> 12) }

// ModeOfDirent returns the file type bits for a DT value.
func ModeOfDirent(dt uint8) Mode { return Mode(dt) << 12 & TypeMask }
