// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A file that another machine has made shorter is read up to its end, whatever
// this one takes its size to be.
func TestADirectReadEndsWhereTheServersFileDoes(t *testing.T) {
	here, there := lockDirs(t)
	if err := os.WriteFile(here+"/f", make([]byte, 8000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(there+"/f", 10); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(here+"/f", unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	within(t, "the read", func() error {
		n, err := unix.Pread(fd, aligned(16<<10), 0)
		if err == nil && n != 10 {
			err = fmt.Errorf("%d bytes, want 10", n)
		}
		return err
	})
}

// aligned returns memory that direct reads take on local file systems.
func aligned(n int) []byte {
	const to = 4096
	b := make([]byte, n+to)
	skip := to - int(uintptr(unsafe.Pointer(&b[0]))%to)
	return b[skip : skip+n : skip+n]
}
