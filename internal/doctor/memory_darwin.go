// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// availableMemory is what the host has in all: macOS does not tell what is
// available without Mach calls.
func availableMemory() (uint64, error) {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, fmt.Errorf("ask for the size of memory: %w", err)
	}
	return n, nil
}
