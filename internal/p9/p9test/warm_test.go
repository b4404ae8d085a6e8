// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// resolveCached is RESOLVE_CACHED of openat2(2).
const resolveCached = 0x20

// A name that is cached is found without a lock, a reference or a request: that
// is what RESOLVE_CACHED asks for, and refuses with EAGAIN otherwise.
func TestWarmNamesAreFoundWithoutWaiting(t *testing.T) {
	here, _ := lockDirs(t)
	path := here + "/a/b/c"
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+"/f", "text")
	if _, err := os.Stat(path + "/f"); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, path+"/f", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached,
	})
	if err != nil {
		t.Fatalf("a name that was just looked up: %v", err)
	}
	unix.Close(fd)
}
