// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

func shareBlocks(out, in *os.File, _ int64) error {
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
}

// copyRange copies inside the kernel, falling back to reading where the two
// files are on different kinds of file systems.
func copyRange(out, in *os.File, off, n int64) error {
	for n > 0 {
		roff, woff := off, off
		c, err := unix.CopyFileRange(int(in.Fd()), &roff, int(out.Fd()), &woff, int(min(n, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || c == 0 {
			return copyNonZero(out, in, off, n)
		}
		off, n = off+int64(c), n-int64(c)
	}
	return nil
}

func punch(f *os.File, off, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	return unsupported(err)
}

func writeback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
