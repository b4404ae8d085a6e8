// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"os"

	"golang.org/x/sys/unix"
)

// widen lets a FIFO hold a chunk, so that the shim writes on while one is
// logged. Linux gives it pages as they are written; a user who has many FIFOs
// gets no more, and they stay as they are.
func widen(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, chunk) })
}
