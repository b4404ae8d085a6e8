// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/testenv"
)

// The tests of this file are about system calls that 9P2000.L has no requests
// for. As in lock_test.go, they ask for what a local file system does.

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantText checks what a path holds, on both mounts of a directory.
func wantText(t *testing.T, want string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v, want %q", path, b, err, want)
		}
	}
}

func rename(from, to string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
}

func TestRenameLeavesWhatIsThereIfAskedTo(t *testing.T) {
	here, there := lockDirs(t)
	writeFile(t, here+"/a", "a")
	writeFile(t, there+"/b", "b") // this mount has not met it
	if err := rename(here+"/a", here+"/b", unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("over another: %v, want EEXIST", err)
	}
	wantText(t, "a", here+"/a")
	wantText(t, "b", here+"/b")
	if err := rename(here+"/a", here+"/c", unix.RENAME_NOREPLACE); err != nil {
		t.Errorf("to a new name: %v", err)
	}
	wantText(t, "a", here+"/c", there+"/c")
	if _, err := os.Stat(here + "/a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	if err := rename(here+"/c", here+"/d", unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE); !errors.Is(err, unix.EINVAL) {
		t.Errorf("both flags at once: %v, want EINVAL", err)
	}
}

func TestRenameExchangesNames(t *testing.T) {
	here, there := lockDirs(t)
	if err := errors.Join(os.Mkdir(here+"/dir", 0o755), os.Mkdir(here+"/dir/sub", 0o755)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, here+"/a", "a")
	writeFile(t, here+"/dir/b", "b")
	writeFile(t, here+"/dir/sub/c", "c")
	open, err := os.Open(here + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := rename(here+"/a", here+"/dir/b", unix.RENAME_EXCHANGE); err != nil {
		t.Fatalf("files of two directories: %v", err)
	}
	wantText(t, "b", here+"/a")
	wantText(t, "a", here+"/dir/b")
	if err := rename(here+"/dir/sub", here+"/a", unix.RENAME_EXCHANGE); err != nil {
		t.Fatalf("a directory and a file: %v", err)
	}
	wantText(t, "c", here+"/a/c", there+"/a/c")
	wantText(t, "b", here+"/dir/sub", there+"/dir/sub")
	b := make([]byte, 2)
	if n, err := open.ReadAt(b, 0); string(b[:n]) != "a" {
		t.Errorf("a file that is open holds %q, %v", b[:n], err)
	}
	if err := rename(here+"/a", here+"/nothing", unix.RENAME_EXCHANGE); !errors.Is(err, unix.ENOENT) {
		t.Errorf("with nothing: %v, want ENOENT", err)
	}
	if err := rename(here+"/dir", here+"/dir/sub", unix.RENAME_EXCHANGE); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a directory with what is in it: %v, want EINVAL", err)
	}
}

func TestRoomIsReservedAndHolesArePunched(t *testing.T) {
	here, there := lockDirs(t)
	f, err := os.Create(here + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	if _, err := f.Write(want); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	step := func(what string, mode uint32, off, n int64) {
		t.Helper()
		if err := unix.Fallocate(fd, mode, off, n); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
			clear(want[off:min(off+n, int64(len(want)))])
		}
		if end := off + n; mode&unix.FALLOC_FL_KEEP_SIZE == 0 && end > int64(len(want)) {
			want = append(want, make([]byte, end-int64(len(want)))...)
		}
		got := make([]byte, len(want)+1)
		if n, _ := f.ReadAt(got, 0); !bytes.Equal(got[:n], want) {
			t.Errorf("%s: %d bytes that differ from the %d wanted", what, n, len(want))
		}
	}
	step("a hole", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 5000, 20000)
	step("room beyond the end", unix.FALLOC_FL_KEEP_SIZE, 1<<16, 1<<16)
	step("a larger file", 0, 1<<16, 5000)
	copy(want[100:], "dirty")
	if _, err := f.WriteAt([]byte("dirty"), 100); err != nil {
		t.Fatal(err)
	}
	step("another hole, beside what is dirty", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 105, 3)
	if st, err := f.Stat(); err != nil || st.Size() != int64(len(want)) {
		t.Errorf("the size is %d, %v, want %d", st.Size(), err, len(want))
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(there + "/f"); err != nil || !bytes.Equal(b, want) {
		t.Errorf("the other mount reads %d bytes, %v, that are not the %d written", len(b), err, len(want))
	}
	if err := unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_PUNCH_HOLE, 0, 4096); err == nil {
		t.Error("modes that exclude each other succeed")
	}
}

func TestAFileWithoutANameCanBeLinked(t *testing.T) {
	here, there := lockDirs(t)
	fd, err := unix.Open(here, unix.O_TMPFILE|unix.O_RDWR, 0o640)
	if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("P9TEST_DIR") == "" {
		testenv.Skip(t, testenv.Feature, "open with O_TMPFILE in %s", here)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("text")); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 || st.Size != 4 || st.Mode&0o777 != 0o640 {
		t.Errorf("without a name: %d links, %d bytes, mode %o, %v", st.Nlink, st.Size, st.Mode, err)
	}
	if names, _ := os.ReadDir(here); len(names) != 0 {
		t.Errorf("the directory shows %v", names)
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", fd), unix.AT_FDCWD, here+"/f", unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatalf("link: %v", err)
	}
	if err := unix.Fsync(fd); err != nil {
		t.Fatal(err)
	}
	wantText(t, "text", here+"/f", there+"/f")
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 1 {
		t.Errorf("with a name: %d links, %v", st.Nlink, err)
	}
	if err := os.Chmod(here+"/f", 0o600); err != nil {
		t.Errorf("chmod: %v", err)
	}
}

func TestADirectorysTimesFollowItsNames(t *testing.T) {
	here, there := lockDirs(t)
	var times []unix.Timespec
	look := func(what string) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(here, &st); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(times, st.Mtim) {
			t.Errorf("%s: the time of the last change is an old one", what)
		}
		times = append(times, st.Mtim)
		tick(t)
	}
	look("empty")
	writeFile(t, here+"/f", "text")
	look("a file made")
	if err := os.Rename(here+"/f", here+"/g"); err != nil {
		t.Fatal(err)
	}
	look("a file renamed")
	if err := os.Link(here+"/g", here+"/h"); err != nil {
		t.Fatal(err)
	}
	look("a file linked")
	if err := os.Remove(here + "/g"); err != nil {
		t.Fatal(err)
	}
	look("a file removed")
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(here+"/h", &a), unix.Stat(there+"/h", &b)); err != nil || a.Nlink != 1 || b.Nlink != 1 {
		t.Errorf("%d and %d links, %v", a.Nlink, b.Nlink, err)
	}
}

// tick waits for the clock that files' times are taken from.
func tick(t *testing.T) {
	t.Helper()
	var before, now unix.Timespec
	for unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &before); now.Nano() <= before.Nano()+20e6; {
		unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
	}
}
