// SPDX-License-Identifier: Apache-2.0

package shim

import "golang.org/x/sys/unix"

// tmpfsSize is the size of the tmpfs that a path is on, 0 when it is on another
// file system.
func tmpfsSize(path string) uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || int64(st.Type) != unix.TMPFS_MAGIC {
		return 0
	}
	return st.Blocks * uint64(st.Bsize)
}
