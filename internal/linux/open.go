// SPDX-License-Identifier: Apache-2.0

package linux

// OpenFlags are open(2) flags with the values of x86, which 9P2000.L puts on
// the wire for every architecture.
type OpenFlags uint32

// Access modes and flags of [OpenFlags].
const (
	ORdonly    OpenFlags = 0
	OWronly    OpenFlags = 0o1
	ORdwr      OpenFlags = 0o2
	ONoaccess  OpenFlags = 0o3
	OAccmode   OpenFlags = 0o3
	OCreate    OpenFlags = 0o100
	OExcl      OpenFlags = 0o200
	ONoctty    OpenFlags = 0o400
	OTrunc     OpenFlags = 0o1000
	OAppend    OpenFlags = 0o2000
	ONonblock  OpenFlags = 0o4000
	ODsync     OpenFlags = 0o10000
	OFasync    OpenFlags = 0o20000
	ODirect    OpenFlags = 0o40000
	OLargefile OpenFlags = 0o100000
	ODirectory OpenFlags = 0o200000
	ONofollow  OpenFlags = 0o400000
	ONoatime   OpenFlags = 0o1000000
	OCloexec   OpenFlags = 0o2000000
	OSync      OpenFlags = 0o4000000
)

// Flags of renameat2(2).
const (
	RenameNoreplace = 1
	RenameExchange  = 2
)

// Modes of fallocate(2).
const (
	FallocKeepSize  = 0x01
	FallocPunchHole = 0x02
	FallocZeroRange = 0x10
)

// AtRemovedir is the unlinkat(2) flag that removes a directory.
const AtRemovedir = 0x200

// Limits of names and paths, as Linux has them.
const (
	NameMax = 255
	PathMax = 4096
)

// Flags of setxattr(2).
const (
	XattrCreate  = 1
	XattrReplace = 2
)

// XattrSizeMax is the largest value of an extended attribute.
const XattrSizeMax = 65536

// Access returns the access mode alone.
func (f OpenFlags) Access() OpenFlags { return f & OAccmode }

// Writes says whether opening with f may change the file.
func (f OpenFlags) Writes() bool {
	return f.Access() == OWronly || f.Access() == ORdwr || f&OTrunc != 0
}

// Reads says whether a file opened with f can be read.
func (f OpenFlags) Reads() bool {
	return f.Access() == ORdonly || f.Access() == ORdwr
}
