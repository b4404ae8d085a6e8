// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/testenv"
)

// TestAFileOpenedUncachedIsNotMappedForWriting needs a share whose server opens
// the file "uncached" with version 0: P9TEST_UNCACHED is its path.
func TestAFileOpenedUncachedIsNotMappedForWriting(t *testing.T) {
	path := os.Getenv("P9TEST_UNCACHED")
	if path == "" {
		testenv.Skip(t, testenv.Guest, "P9TEST_UNCACHED names no file: a guest's share is needed")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string]int{"read": unix.PROT_READ, "written": unix.PROT_READ | unix.PROT_WRITE} {
		b, err := unix.Mmap(int(f.Fd()), 0, 4, flags, unix.MAP_SHARED)
		if err == nil {
			unix.Munmap(b)
		}
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("a shared mapping to be %s of a file open for writing: %v, want EINVAL", name, err)
		}
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatalf("a private mapping: %v", err)
	}
	if string(b) != "text" {
		t.Errorf("a private mapping holds %q", b)
	}
	unix.Munmap(b)
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err = unix.Mmap(int(r.Fd()), 0, 4, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		t.Fatalf("a shared mapping of a file open for reading: %v", err)
	}
	unix.Munmap(b)
}
