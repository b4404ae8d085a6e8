// SPDX-License-Identifier: Apache-2.0

//go:build unix

package doctor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func freeSpace(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
