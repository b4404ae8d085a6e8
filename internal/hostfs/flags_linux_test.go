// SPDX-License-Identifier: Apache-2.0

package hostfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/testenv"
)

// hostOpens returns the flags with which this process has a file of the host
// open, but for handles that nothing is read by.
func hostOpens(t *testing.T, path string) (all []int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err != nil || to != path {
			continue
		}
		b, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "flags:")
		flags, err := strconv.ParseInt(strings.Fields(rest)[0], 8, 64)
		if err != nil {
			t.Fatal(err)
		}
		if flags&unix.O_PATH == 0 {
			all = append(all, int(flags))
		}
	}
	return all
}

// openedAs opens or makes a file with flags and returns those of the host's.
func openedAs(t *testing.T, root *p9client.FID, path string, flags linux.OpenFlags) int {
	t.Helper()
	f, err := root.Walk()
	if err == nil && flags&linux.OCreate != 0 {
		err = f.Create(filepath.Base(path), flags, 0o644, 0)
	} else if err == nil {
		if f, err = root.Walk(filepath.Base(path)); err == nil {
			err = f.Open(flags)
		}
	}
	if err != nil {
		t.Fatalf("open with %#o: %v", flags, err)
	}
	if n, err := f.WriteAt([]byte("odd"), 1); n != 3 || err != nil {
		t.Errorf("a write of no block's size with %#o: %d, %v", flags, n, err)
	}
	got := hostOpens(t, path)
	if err := f.Clunk(); err != nil {
		t.Error(err)
	}
	if len(got) != 1 {
		t.Fatalf("with %#o the host's file is open as %#o", flags, got)
	}
	return got[0]
}

func TestFlagsOfOpenReachTheHost(t *testing.T) {
	testenv.NeedRoot(t, "leave times of access alone")
	dir := t.TempDir()
	root := export(t, hostfs.Config{Path: dir})
	const of = unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME | unix.O_DIRECT | unix.O_APPEND
	for i, c := range []struct {
		guest linux.OpenFlags
		host  int
		// made is host for a file that is made, where it differs.
		made int
	}{
		{0, 0, 0},
		{linux.ODsync, unix.O_DSYNC, unix.O_DSYNC},
		{linux.OSync, unix.O_SYNC, unix.O_SYNC},
		{linux.OSync | linux.ODsync, unix.O_SYNC, unix.O_SYNC},
		{linux.ONoatime, unix.O_NOATIME, 0}, // it says nothing of a new file
		{linux.ODirect, 0, 0},               // the guest's cache is what it goes round
		{linux.ONonblock, 0, 0},             // files do not block
		{linux.OAppend, unix.O_APPEND, unix.O_APPEND},
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if got := openedAs(t, root, path, linux.ORdwr|linux.OCreate|linux.OExcl|c.guest); got&of != c.made {
			t.Errorf("made with %#o, the host's file is open with %#o, want %#o", c.guest, got&of, c.made)
		}
		if got := openedAs(t, root, path, linux.ORdwr|c.guest); got&of != c.host {
			t.Errorf("opened with %#o, the host's file is open with %#o, want %#o", c.guest, got&of, c.host)
		}
	}
	f := filepath.Join(dir, "f")
	if err := os.WriteFile(f, []byte("contents"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := unix.NsecToTimespec(1e18)
	if err := os.Chtimes(f, time.Unix(0, 1e18), time.Unix(1, 1e18)); err != nil {
		t.Fatal(err)
	}
	h, err := root.Walk("f")
	if err == nil {
		err = h.Open(linux.ONoatime)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.ReadAt(make([]byte, 4), 0); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(f, &st); err != nil || st.Atim != old {
		t.Errorf("a read with O_NOATIME sets the time of access: %v, %v", st.Atim, err)
	}
}

func TestAFIFOIsNotOpenedWhateverTheFlags(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := export(t, hostfs.Config{Path: dir, Mapped: os.Getuid() != 0})
	for _, flags := range []linux.OpenFlags{linux.ORdonly | linux.ONonblock, linux.ORdwr | linux.ONonblock, linux.OWronly} {
		f, err := root.Walk("p")
		if err != nil {
			t.Fatal(err)
		}
		var r p9.Rlopen
		if err := f.Client().Call(&p9.Tlopen{FID: f.Num(), Flags: flags}, &r); !errors.Is(err, linux.ENXIO) && !errors.Is(err, linux.EACCES) {
			t.Errorf("with %#o: %v", flags, err)
		}
	}
}
