// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// A seed is a file system of one group from which the guest's kernel makes one
// of any size when it mounts it. What it consists of is fixed, so that what
// grows from it can be reckoned.
const (
	// SeedSize is the size of a seed.
	SeedSize = 24 << 20
	// SeedJournal is the size of its journal.
	SeedJournal = 8 << 20
	// SeedInodes is how many inodes each group has.
	SeedInodes = 8192
)

const (
	// MinScratch is the least size that a scratch disk may be asked for.
	MinScratch = 16 << 20
	// MaxScratch is the largest.
	MaxScratch = 8 << 40
)

// ErrSize says that a disk cannot be made as large, or as small, as asked for.
var ErrSize = errors.New("a disk has from 16 MiB to 8 TiB")

// SeedOf is where the seed that goes with a template of scratch disks is.
func SeedOf(template string) string {
	ext := filepath.Ext(template)
	return strings.TrimSuffix(template, ext) + "-seed" + ext
}

// Scratch makes the new file dst a scratch disk: a copy of the template if size
// is 0, else one whose file system, once the guest has mounted it, has size
// bytes, rounded up to blocks, for files and directories. It fails as Clone
// does, and with ErrSize.
func Scratch(dst, template string, size int64) error {
	if size == 0 {
		return Clone(dst, template, 0)
	}
	if size < MinScratch || size > MaxScratch {
		return fmt.Errorf("%w, not %d bytes", ErrSize, size)
	}
	return Clone(dst, SeedOf(template), scratchBlocks((size+block-1)/block)*block)
}

const (
	block = 4096
	// groupBlocks are in a group: as many as a block has bits.
	groupBlocks = 8 * block
	// groupOwn are the blocks of a group that are no file's: two bitmaps and
	// the inodes.
	groupOwn = 2 + SeedInodes*inodeSize/block

	inodeSize = 256
	// metaGroup is how many groups' descriptors are in one block.
	metaGroup = block / 64
)

// scratchBlocks returns how many blocks a file system takes that has n of them
// for files, as ext4 counts them (ext4_calculate_overhead in fs/ext4/super.c).
func scratchBlocks(n int64) int64 {
	for total := n; ; {
		groups := (total + groupBlocks - 1) / groupBlocks
		need := n + SeedJournal/block + groups*groupOwn + backups(groups)
		// A last group that holds little more than its own is left out
		// (ext4_resize_fs in fs/ext4/resize.c): then it is to be larger.
		if last := need % groupBlocks; last > 0 && last <= leastGroup {
			need += leastGroup + 1 - last
		}
		if need <= total {
			return total
		}
		total = need
	}
}

// leastGroup is the largest group that is left out: its own blocks, a superblock
// and descriptors.
const leastGroup = groupOwn + 3

// backups are the blocks of superblocks and descriptors in a file system that
// has grown to so many groups: the descriptors of the first 64 go with each
// superblock, those of others are thrice in each 64 (meta_bg).
func backups(groups int64) int64 {
	var n int64
	for g := range groups {
		if hasSuper(g) {
			n++
		}
		switch {
		case g < metaGroup && hasSuper(g):
			n++
		case g >= metaGroup && (g%metaGroup < 2 || g%metaGroup == metaGroup-1):
			n++
		}
	}
	return n
}

// hasSuper tells whether a group has a copy of the superblock: 0, 1 and the
// powers of 3, 5 and 7 (sparse_super).
func hasSuper(group int64) bool {
	for _, base := range []int64{3, 5, 7} {
		power := int64(1)
		for power < group {
			power *= base
		}
		if power == group {
			return true
		}
	}
	return group == 0
}
