// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/disk"
)

// template is a template of scratch disks with its seed, none of which holds a
// file system.
func template(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scratch.ext4")
	for file, size := range map[string]int64{path: 64 << 30, disk.SeedOf(path): disk.SeedSize} {
		if err := disk.Create(file, size); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestScratchDiskWithoutASizeIsTheTemplate(t *testing.T) {
	from := template(t)
	path := filepath.Join(t.TempDir(), "disk")
	if err := disk.Scratch(path, from, 0); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 64<<30 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

func TestScratchDiskHasRoomForWhatIsAskedForAndLittleMore(t *testing.T) {
	from := template(t)
	for _, size := range []int64{disk.MinScratch, 100 * mib, 120*mib + 1, 1 << 30, 10 << 30, 64 << 30, 100 << 30, disk.MaxScratch} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := disk.Scratch(path, from, size); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		// Journal, inodes and bitmaps, and a last group that is large enough.
		if more := info.Size() - size; more < disk.SeedJournal+2*mib || more > disk.SeedJournal+6*mib+size/50 || info.Size()%4096 != 0 {
			t.Errorf("disk of %d bytes for %d", info.Size(), size)
		}
	}
}

func TestScratchDiskOfASizeThatCannotBeIsNotMade(t *testing.T) {
	from := template(t)
	path := filepath.Join(t.TempDir(), "disk")
	for _, size := range []int64{-1, 1, disk.MinScratch - 1, disk.MaxScratch + 1} {
		if err := disk.Scratch(path, from, size); !errors.Is(err, disk.ErrSize) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d bytes: the disk is there", size)
		}
	}
}
