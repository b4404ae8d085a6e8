// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"errors"
	"syscall"

	"byre.dev/byre/internal/linux"
)

// errno is the error of a system call as the guest knows it.
func (fs *FS) errno(err error) linux.Errno {
	if err == nil {
		return 0
	}
	n, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		fs.log.Error("host error without a number", "err", err)
		return linux.EIO
	}
	if int(n) < len(darwinErrno) && darwinErrno[n] != 0 {
		return darwinErrno[n]
	}
	fs.log.Error("host error unknown to the guest", "err", err)
	return linux.EIO
}

// darwinErrno gives Linux's number for macOS's. The first 34, but for 11,
// are the same.
var darwinErrno = [...]linux.Errno{
	syscall.EPERM: linux.EPERM, syscall.ENOENT: linux.ENOENT, syscall.EINTR: linux.EINTR,
	syscall.EIO: linux.EIO, syscall.ENXIO: linux.ENXIO, syscall.E2BIG: linux.E2BIG,
	syscall.EBADF: linux.EBADF, syscall.EDEADLK: linux.EDEADLK, syscall.ENOMEM: linux.ENOMEM,
	syscall.EACCES: linux.EACCES, syscall.EFAULT: linux.EFAULT, syscall.EBUSY: linux.EBUSY,
	syscall.EEXIST: linux.EEXIST, syscall.EXDEV: linux.EXDEV, syscall.ENODEV: linux.ENODEV,
	syscall.ENOTDIR: linux.ENOTDIR, syscall.EISDIR: linux.EISDIR, syscall.EINVAL: linux.EINVAL,
	syscall.ENFILE: linux.ENFILE, syscall.EMFILE: linux.EMFILE, syscall.ENOTTY: linux.ENOTTY,
	syscall.ETXTBSY: linux.ETXTBSY, syscall.EFBIG: linux.EFBIG, syscall.ENOSPC: linux.ENOSPC,
	syscall.ESPIPE: linux.ESPIPE, syscall.EROFS: linux.EROFS, syscall.EMLINK: linux.EMLINK,
	syscall.EPIPE: linux.EPIPE, syscall.ERANGE: linux.ERANGE, syscall.EAGAIN: linux.EAGAIN,
	syscall.ENOTSUP: linux.EOPNOTSUPP, syscall.EOPNOTSUPP: linux.EOPNOTSUPP,
	syscall.ELOOP: linux.ELOOP, syscall.ENAMETOOLONG: linux.ENAMETOOLONG,
	syscall.ENOTEMPTY: linux.ENOTEMPTY, syscall.EDQUOT: linux.EDQUOT,
	syscall.ESTALE: linux.ESTALE, syscall.ENOLCK: linux.ENOLCK, syscall.ENOSYS: linux.ENOSYS,
	syscall.EOVERFLOW: linux.EOVERFLOW, syscall.ENOATTR: linux.ENODATA,
	syscall.EILSEQ: linux.EILSEQ, syscall.ECANCELED: linux.ECANCELED,
	syscall.ETIMEDOUT: linux.ETIMEDOUT, syscall.ENODATA: linux.ENODATA,
}
