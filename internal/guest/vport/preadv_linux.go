// SPDX-License-Identifier: Apache-2.0

package vport

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// iovec is struct iovec with an address that need not be a Go pointer.
type iovec struct{ base, len uintptr }

// preadvSync reads one byte to an address that is never mapped, with RWF_DSYNC,
// at the current position.
func preadvSync(fd uintptr) unix.Errno {
	const rwfDsync = 0x2
	iov := iovec{base: 1, len: 1}
	// SAFETY: the kernel reads iov during the call only, and writes nothing:
	// address 1 is below vm.mmap_min_addr.
	_, _, errno := unix.Syscall6(unix.SYS_PREADV2, fd, uintptr(unsafe.Pointer(&iov)), 1,
		^uintptr(0), ^uintptr(0), rwfDsync)
	return errno
}
