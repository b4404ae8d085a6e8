// SPDX-License-Identifier: Apache-2.0

package hostfs

import "golang.org/x/sys/unix"

// getxattr reads an attribute of the handle's file, or of a name in the
// directory that fd is, without following a symbolic link.
func getxattr(fd int, name, attr string) ([]byte, error) {
	if name != "" {
		h, err := openHandle(fd, name)
		if err != nil {
			return nil, err
		}
		defer closeFD(h)
		fd = h
	}
	return grow(func(b []byte) (int, error) { return unix.Fgetxattr(fd, attr, b) })
}

func listxattr(h int) ([]byte, error) {
	return grow(func(b []byte) (int, error) { return unix.Flistxattr(h, b) })
}

// grow makes a call with a buffer as large as the call asks for.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, n)
		if n == 0 {
			return buf, nil
		}
		if n, err = call(buf); err != unix.ERANGE {
			return buf[:max(n, 0)], err
		}
	}
}

// The flags of setxattr on macOS have other numbers than Linux's.
const (
	darwinCreate  = 2
	darwinReplace = 4
)

func setxattr(h int, attr string, value []byte, flags int) error {
	return unix.Fsetxattr(h, attr, value, flags&1*darwinCreate|flags&2/2*darwinReplace)
}

func removexattr(h int, attr string) error { return unix.Fremovexattr(h, attr) }
