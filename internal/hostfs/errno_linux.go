// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"errors"
	"syscall"

	"byre.dev/byre/internal/linux"
)

// errno is the error of a system call as the guest knows it: on Linux the
// same number.
func (fs *FS) errno(err error) linux.Errno {
	if err == nil {
		return 0
	}
	if n, ok := errors.AsType[syscall.Errno](err); ok && n > 0 && n < 4096 {
		return linux.Errno(n)
	}
	fs.log.Error("host error without a number", "err", err)
	return linux.EIO
}
