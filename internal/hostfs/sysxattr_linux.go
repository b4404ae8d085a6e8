// SPDX-License-Identifier: Apache-2.0

package hostfs

import "golang.org/x/sys/unix"

// getxattr reads an attribute of the handle's file, or of a name in the
// directory that fd is, without following a symbolic link.
func getxattr(fd int, name, attr string) ([]byte, error) {
	get := unix.Getxattr
	if name != "" {
		get = unix.Lgetxattr
	}
	path := procPath(fd, name)
	var first [128]byte
	n, err := get(path, attr, first[:])
	if err == nil {
		return append([]byte{}, first[:n]...), nil
	}
	return grow(err, func(b []byte) (int, error) { return get(path, attr, b) })
}

func listxattr(h int) ([]byte, error) {
	path := procPath(h, "")
	return grow(unix.ERANGE, func(b []byte) (int, error) { return unix.Listxattr(path, b) })
}

// grow repeats a call that found its buffer too small with one as large as
// the call asks for.
func grow(err error, call func([]byte) (int, error)) ([]byte, error) {
	for err == unix.ERANGE {
		var n int
		if n, err = call(nil); err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		if n, err = call(buf); err == nil {
			return buf[:n], nil
		}
	}
	return nil, err
}

func setxattr(h int, attr string, value []byte, flags int) error {
	return unix.Setxattr(procPath(h, ""), attr, value, flags)
}

func removexattr(h int, attr string) error { return unix.Removexattr(procPath(h, ""), attr) }
