// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shareBlocks would be clonefile(2), which makes its destination itself; ours
// exists, so the ranges are copied.
func shareBlocks(_, _ *os.File, _ int64) error { return errors.ErrUnsupported }

func copyRange(out, in *os.File, off, n int64) error { return copyNonZero(out, in, off, n) }

func punch(f *os.File, off, n int64) error {
	hole := struct {
		flags, reserved uint32
		offset, length  int64
	}{offset: off, length: n}
	// SAFETY: the structure is fpunchhole_t of <sys/fcntl.h> and outlives the call.
	_, _, errno := unix.Syscall(unix.SYS_FCNTL, f.Fd(), unix.F_PUNCHHOLE, uintptr(unsafe.Pointer(&hole)))
	if errno != 0 {
		return unsupported(errno)
	}
	return nil
}

func writeback(*os.File, int64, int64) {}
