// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// newMemoryFile makes a memory file that has no name and ends with its last
// user.
func newMemoryFile(size uint64) (*os.File, error) {
	fd, err := unix.MemfdCreate("byre-memory", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "byre-memory")
	if err := f.Truncate(int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("size memory file: %w", err), f.Close())
	}
	return f, nil
}

func hostMemory() (uint64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, fmt.Errorf("ask for the size of memory: %w", err)
	}
	return uint64(si.Totalram) * uint64(si.Unit), nil
}

// hostBoot identifies this run of the host.
func hostBoot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)
