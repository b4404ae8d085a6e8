// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/testenv"
)

const mib = 1 << 20

// makeSparse writes a disk of 1 GiB with data at three places.
func makeSparse(t *testing.T, path string) {
	t.Helper()
	if err := disk.Create(path, 1024*mib); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, 300*mib + 4096, 1024*mib - 8192} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(off>>20) | 1}, 8192), off); err != nil {
			t.Fatal(err)
		}
	}
}

func readAt(t *testing.T, path string, off int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 8192)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCloneKeepsContentsAndHoles(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	makeSparse(t, src)
	if err := disk.Clone(dst, src, 0); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 4096, 300 * mib, 300*mib + 4096, 512 * mib, 1024*mib - 8192} {
		if !bytes.Equal(readAt(t, src, off), readAt(t, dst, off)) {
			t.Errorf("contents differ at %d", off)
		}
	}
	n, err := disk.Allocated(dst)
	if err != nil {
		t.Fatal(err)
	}
	if n > mib {
		t.Errorf("copy of 24 KiB of data takes %d bytes", n)
	}
}

func TestCloneGrowsTheCopy(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	makeSparse(t, src)
	if err := disk.Clone(dst, src, 4096*mib); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(dst)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != 4096*mib {
		t.Errorf("size = %d", st.Size())
	}
}

func TestCloneLeavesNothingBehindOnError(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "b")
	if err := disk.Clone(dst, filepath.Join(dir, "absent"), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("clone of an absent file: %v", err)
	}
	if err := disk.Clone(dst, dir, 0); err == nil {
		t.Error("clone of a directory succeeded")
	}
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("destination is left behind: %v", err)
	}
	if err := os.WriteFile(dst, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	makeSparse(t, filepath.Join(dir, "a"))
	if err := disk.Clone(dst, filepath.Join(dir, "a"), 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("clone over an existing file: %v", err)
	}
	if b, err := os.ReadFile(dst); err != nil || string(b) != "precious" {
		t.Errorf("existing file was touched: %q %v", b, err)
	}
}

func TestPunchGivesSpaceBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, bytes.Repeat([]byte{7}, 8*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := disk.Punch(f, mib, 6*mib); errors.Is(err, errors.ErrUnsupported) {
		testenv.Skip(t, testenv.FileSystem, "it has no holes")
	} else if err != nil {
		t.Fatal(err)
	}
	n, err := disk.Allocated(path)
	if err != nil {
		t.Fatal(err)
	}
	if n > 3*mib {
		t.Errorf("allocated = %d after punching 6 of 8 MiB", n)
	}
	if b := readAt(t, path, 3*mib); !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("hole does not read as zeros")
	}
	if st, _ := f.Stat(); st.Size() != 8*mib {
		t.Errorf("size changed to %d", st.Size())
	}
}

func TestVHDFooterIsThatOfTheSpecification(t *testing.T) {
	b, err := disk.VHDFooter(64*mib, [16]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	if string(b[:8]) != "conectix" || binary.BigEndian.Uint64(b[48:]) != 64*mib {
		t.Errorf("footer = %x", b[:64])
	}
	// 64 MiB is 963 cylinders, 8 heads, 17 sectors by the specification's appendix.
	if c := binary.BigEndian.Uint16(b[56:]); c != 963 || b[58] != 8 || b[59] != 17 {
		t.Errorf("geometry = %d/%d/%d", c, b[58], b[59])
	}
	sum := binary.BigEndian.Uint32(b[64:])
	clear(b[64:68])
	var want uint32
	for _, c := range b {
		want += uint32(c)
	}
	if sum != ^want {
		t.Errorf("checksum = %x, want %x", sum, ^want)
	}
	if _, err := disk.VHDFooter(100, [16]byte{}); err == nil {
		t.Error("a disk of 100 bytes was accepted")
	}
}

func TestFilesOfADirectoryAreCountedAsTheyLieOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, n int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), n), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	whole, holes := write("whole", mib), write("holes", 0)
	want, err := disk.Allocated(whole)
	if err != nil || want < mib {
		t.Fatalf("%d bytes, error %v", want, err)
	}
	if err := os.Truncate(holes, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(whole, filepath.Join(dir, "sub", "same")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(whole, filepath.Join(dir, "link")); err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Log("no symbolic link: ", err)
	}
	if got := disk.AllocatedIn(dir); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	if got := disk.AllocatedIn(filepath.Join(dir, "none")); got != 0 {
		t.Errorf("%d bytes of a directory that is not there", got)
	}
}
