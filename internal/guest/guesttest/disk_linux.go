// SPDX-License-Identifier: Apache-2.0

package guesttest

import (
	"os"
	"os/exec"
	"testing"
)

// CheckDisk checks an ext4 image without changing it and returns what e2fsck
// says; an error in the file system fails the test.
func CheckDisk(tb testing.TB, image string) string {
	tb.Helper()
	return e2fs(tb, "e2fsck", "-fn", image)
}

// ReadDisk returns a file of an ext4 image.
func ReadDisk(tb testing.TB, image, name string) string {
	tb.Helper()
	return e2fs(tb, "debugfs", "-R", "cat "+name, image)
}

// ListDisk lists a directory of an ext4 image.
func ListDisk(tb testing.TB, image, dir string) string {
	tb.Helper()
	return e2fs(tb, "debugfs", "-R", "ls -p "+dir, image)
}

func e2fs(tb testing.TB, tool string, args ...string) string {
	tb.Helper()
	cmd := exec.Command(tool, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	cmd.Path, _ = exec.LookPath("/usr/sbin/" + tool)
	if cmd.Path == "" {
		cmd.Path = "/sbin/" + tool
	}
	out, err := cmd.Output()
	if err != nil {
		tb.Errorf("%s: %v: %s", tool, err, out)
	}
	return string(out)
}
