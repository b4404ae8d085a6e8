// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"os"
	"testing"

	"byre.dev/byre/internal/p9/p9test"
)

// The suite runs on a directory of the system the test runs on: what it
// demands of shares, the local file system does as well. P9TEST_DIR names the
// directory, which in a guest is a mounted share; P9TEST_SECONDS says that
// the mount keeps whole seconds only, as an unpatched Linux does over 9P,
// P9TEST_SLOW that the guest is emulated.
func TestTheLocalFileSystemKeepsTheContract(t *testing.T) {
	dir := os.Getenv("P9TEST_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	p9test.Run(t, p9test.OS(dir), p9test.Traits{
		Unprivileged:  os.Getuid() != 0,
		NoNanoseconds: os.Getenv("P9TEST_SECONDS") != "",
		Slow:          os.Getenv("P9TEST_SLOW") != "",
	})
}
