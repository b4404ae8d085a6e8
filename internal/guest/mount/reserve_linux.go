// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scarce is how many free blocks are few: an overlay makes some directories.
const scarce = 64

// lendReserve lets directories be made on an ext4 that is full, until giveBack is
// called. Overlayfs makes its work directory anew each time it is mounted, and
// where that finds no room it is mounted read-only: a container that filled its
// disk could not even delete. ext4 keeps blocks back from ordinary files
// (reserved_clusters, Documentation/ABI/testing/sysfs-fs-ext4).
func lendReserve(dir int) (giveBack func(), err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(dir, &st); err != nil {
		return nil, err
	}
	if st.Type != unix.EXT4_SUPER_MAGIC || st.Bavail > scarce {
		return func() {}, nil
	}
	var at unix.Stat_t
	if err := unix.Fstat(dir, &at); err != nil {
		return nil, err
	}
	block, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(at.Dev), unix.Minor(at.Dev)))
	if err != nil {
		return nil, err
	}
	setting := filepath.Join("/sys/fs/ext4", filepath.Base(block), "reserved_clusters")
	before, err := os.ReadFile(setting)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(setting, []byte("0"), 0); err != nil {
		return nil, err
	}
	return func() { _ = os.WriteFile(setting, before, 0) }, nil
}
