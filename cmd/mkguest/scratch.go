// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"byre.dev/byre/internal/disk"
)

// What would differ between two runs of mke2fs is fixed: identifiers, the hash
// seed, and by E2FSPROGS_FAKE_TIME every time stamp.
const (
	scratchUUID = "62797265-0000-4000-8000-736372617463"
	hashSeed    = "62797265-0000-4000-8000-686173687365"
	fakeTime    = "1700000000"
)

// mkfsArgs are mke2fs' arguments for a file system of which many sparse copies
// are made, used for a container's life and thrown away:
//
//   - flex groups of 2^14 groups keep all metadata together, so that a fresh copy touches
//     few blocks; bigalloc is not used, for small files are the rule;
//   - sparse_super2 keeps two backups of the superblock instead of dozens;
//   - metadata checksums let uninitialized groups stay unwritten, and with
//     lazy_itable_init the tables too; noinit_itable at mount time keeps the
//     kernel from writing them later in the background (the file reads as
//     zeros anyway, which is what initialized tables hold);
//   - a journal of 64 MiB is written sequentially and only where used;
//   - no blocks are reserved for root, and ids of inodes are 256 bytes, the
//     size that xattrs of overlayfs need.
func mkfsArgs(file string, size int64) []string {
	return append(commonArgs("sparse_super2", ",num_backup_sb=0"),
		"-i", "65536", "-G", "16384", "-J", "size=64", file, fmt.Sprintf("%dk", size>>10))
}

// seedArgs are those for the file system from which disks of a size of their
// own are grown: one group, with as many inodes as each that is added to it is
// to have. The kernel grows no file system with sparse_super2. What of it is no
// file's is reckoned with in disk.Scratch.
func seedArgs(file string) []string {
	return append(commonArgs("^sparse_super2", ""),
		"-N", strconv.Itoa(disk.SeedInodes), "-G", "16", "-J", fmt.Sprintf("size=%d", disk.SeedJournal>>20),
		file, fmt.Sprintf("%dk", disk.SeedSize>>10))
}

func commonArgs(super, backups string) []string {
	return []string{
		"-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-I", "256",
		"-O", "^resize_inode," + super + ",metadata_csum,64bit,flex_bg,extent,has_journal,dir_index,large_dir,huge_file,^orphan_file",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,assume_storage_prezeroed=1" + backups + ",hash_seed=" + hashSeed,
		"-U", scratchUUID, "-L", "scratch",
	}
}

// writeScratch makes the scratch template and the seed of disks of other sizes.
func writeScratch(size int64, dir string) error {
	template := filepath.Join(dir, "scratch.ext4")
	return errors.Join(
		writeDisk(template, size, func(file string) []string { return mkfsArgs(file, size) }),
		writeDisk(disk.SeedOf(template), disk.SeedSize, seedArgs))
}

// writeDisk makes a sparse ext4 without lost+found, which databases take for a
// foreign file in their directory.
func writeDisk(out string, size int64, args func(file string) []string) error {
	return replace(out, func(f *os.File) error {
		if err := f.Truncate(size); err != nil {
			return err
		}
		if err := tool(f.Name(), "mke2fs", args(f.Name())...); err != nil {
			return err
		}
		return tool(f.Name(), "debugfs", "-w", "-R", "rmdir lost+found", f.Name())
	})
}

func tool(file, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME="+fakeTime, "LC_ALL=C", "MKE2FS_CONFIG=/dev/null",
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, file, err, strings.TrimSpace(string(out)))
	}
	return nil
}
