// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newMemoryFile makes a file that has no name any more and ends with its last
// user.
func newMemoryFile(size uint64) (*os.File, error) {
	f, err := os.CreateTemp("", "byre-memory-*")
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(int64(size))); err != nil {
		return nil, errors.Join(fmt.Errorf("make memory file: %w", err), f.Close())
	}
	return f, nil
}

func hostMemory() (uint64, error) {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, fmt.Errorf("ask for the size of memory: %w", err)
	}
	return n, nil
}

// hostBoot identifies this run of the host.
func hostBoot() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}

const (
	seekData = 4 // SEEK_DATA of sys/unistd.h
	seekHole = 3 // SEEK_HOLE
)
