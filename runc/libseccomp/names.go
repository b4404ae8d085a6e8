// SPDX-License-Identifier: Apache-2.0

package seccomp

import libseccomp "byre.dev/libseccomp-golang"

// What is the library's own, unchanged.
type (
	ScmpAction    = libseccomp.ScmpAction
	ScmpArch      = libseccomp.ScmpArch
	ScmpCompareOp = libseccomp.ScmpCompareOp
	ScmpCondition = libseccomp.ScmpCondition
	ScmpSyscall   = libseccomp.ScmpSyscall
	VersionError  = libseccomp.VersionError
)

// Architectures.
const (
	ArchInvalid     = libseccomp.ArchInvalid
	ArchNative      = libseccomp.ArchNative
	ArchX86         = libseccomp.ArchX86
	ArchAMD64       = libseccomp.ArchAMD64
	ArchX32         = libseccomp.ArchX32
	ArchARM         = libseccomp.ArchARM
	ArchARM64       = libseccomp.ArchARM64
	ArchMIPS        = libseccomp.ArchMIPS
	ArchMIPS64      = libseccomp.ArchMIPS64
	ArchMIPS64N32   = libseccomp.ArchMIPS64N32
	ArchMIPSEL      = libseccomp.ArchMIPSEL
	ArchMIPSEL64    = libseccomp.ArchMIPSEL64
	ArchMIPSEL64N32 = libseccomp.ArchMIPSEL64N32
	ArchPPC         = libseccomp.ArchPPC
	ArchPPC64       = libseccomp.ArchPPC64
	ArchPPC64LE     = libseccomp.ArchPPC64LE
	ArchS390        = libseccomp.ArchS390
	ArchS390X       = libseccomp.ArchS390X
	ArchRISCV64     = libseccomp.ArchRISCV64
	ArchLOONGARCH64 = libseccomp.ArchLOONGARCH64
)

// Actions.
const (
	ActInvalid     = libseccomp.ActInvalid
	ActKillThread  = libseccomp.ActKillThread
	ActKillProcess = libseccomp.ActKillProcess
	ActTrap        = libseccomp.ActTrap
	ActNotify      = libseccomp.ActNotify
	ActErrno       = libseccomp.ActErrno
	ActTrace       = libseccomp.ActTrace
	ActLog         = libseccomp.ActLog
	ActAllow       = libseccomp.ActAllow
)

// Comparisons.
const (
	CompareInvalid      = libseccomp.CompareInvalid
	CompareNotEqual     = libseccomp.CompareNotEqual
	CompareLess         = libseccomp.CompareLess
	CompareLessOrEqual  = libseccomp.CompareLessOrEqual
	CompareEqual        = libseccomp.CompareEqual
	CompareGreaterEqual = libseccomp.CompareGreaterEqual
	CompareGreater      = libseccomp.CompareGreater
	CompareMaskedEqual  = libseccomp.CompareMaskedEqual
)

// GetAPI returns the level of the kernel's and the library's interface.
func GetAPI() (uint, error) { return libseccomp.GetAPI() }

// GetLibraryVersion returns the version of the library that is linked.
func GetLibraryVersion() (major, minor, micro uint) { return libseccomp.GetLibraryVersion() }

// GetNativeArch returns the architecture of this system.
func GetNativeArch() (ScmpArch, error) { return libseccomp.GetNativeArch() }

// GetArchFromString reads an architecture's name.
func GetArchFromString(arch string) (ScmpArch, error) { return libseccomp.GetArchFromString(arch) }

// GetSyscallFromName returns the number of a system call of this system.
func GetSyscallFromName(name string) (ScmpSyscall, error) { return libseccomp.GetSyscallFromName(name) }

// GetSyscallFromNameByArch returns the number of an architecture's system call.
func GetSyscallFromNameByArch(name string, arch ScmpArch) (ScmpSyscall, error) {
	return libseccomp.GetSyscallFromNameByArch(name, arch)
}

// MakeCondition makes a condition on one argument of a system call.
func MakeCondition(arg uint, comparison ScmpCompareOp, values ...uint64) (ScmpCondition, error) {
	return libseccomp.MakeCondition(arg, comparison, values...)
}
