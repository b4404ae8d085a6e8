// SPDX-License-Identifier: Apache-2.0

package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
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

// TestProgramDisk makes an ext4 image that holds the test program of a package
// of this module under the name "test", built for the guest.
func TestProgramDisk(tb testing.TB, pkg string) string {
	tb.Helper()
	dir := tb.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-c", "-o", filepath.Join(root, "test"), pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build the tests of %s: %v: %s", pkg, err, out)
	}
	image := filepath.Join(dir, "test.ext4")
	mkfs(tb, image, "32M", "-O", "^has_journal", "-d", root)
	return image
}
