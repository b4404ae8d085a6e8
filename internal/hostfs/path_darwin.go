// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pathOf is where the handle's file is now.
func pathOf(h int) (string, error) {
	var buf [unix.PathMax]byte
	// SAFETY: F_GETPATH fills at most PATH_MAX bytes, and the conversion is
	// part of the call.
	_, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(h), unix.F_GETPATH,
		uintptr(unsafe.Pointer(&buf[0])))
	if e != 0 {
		return "", e
	}
	path, _, _ := strings.Cut(string(buf[:]), "\x00")
	return path, nil
}
