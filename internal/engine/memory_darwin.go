// SPDX-License-Identifier: Apache-2.0

package engine

import "golang.org/x/sys/unix"

func hostMemory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(n)
}
