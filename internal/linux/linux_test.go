// SPDX-License-Identifier: Apache-2.0

package linux_test

import (
	"testing"

	"byre.dev/byre/internal/linux"
)

func TestErrnoTextIsStrerrors(t *testing.T) {
	for e, want := range map[linux.Errno]string{
		linux.ENOENT:    "no such file or directory",
		linux.ESTALE:    "stale file handle",
		linux.ENOTEMPTY: "directory not empty",
		4095:            "errno 4095",
	} {
		if got := e.Error(); got != want {
			t.Errorf("Errno(%d) = %q, want %q", uint32(e), got, want)
		}
	}
}

func TestSuccessIsNoError(t *testing.T) {
	if err := linux.Errno(0).Err(); err != nil {
		t.Errorf("Err of success = %v", err)
	}
	if err := linux.EIO.Err(); err != linux.EIO {
		t.Errorf("Err of EIO = %v", err)
	}
}

func TestDirentTypeIsInverseOfMode(t *testing.T) {
	types := []linux.Mode{
		linux.TypeSocket, linux.TypeSymlink, linux.TypeRegular, linux.TypeBlock,
		linux.TypeDir, linux.TypeChar, linux.TypeFIFO,
	}
	for _, m := range types {
		if got := linux.ModeOfDirent((m | 0o644).DirentType()); got != m {
			t.Errorf("mode %o comes back as %o", m, got)
		}
	}
	if (linux.TypeDir | 0o700).DirentType() != linux.DTDir {
		t.Error("a directory is not listed as one")
	}
}

func TestTruncationAloneWrites(t *testing.T) {
	if !(linux.ORdonly | linux.OTrunc).Writes() || linux.ORdonly.Writes() {
		t.Error("O_RDONLY|O_TRUNC writes and O_RDONLY does not")
	}
}
