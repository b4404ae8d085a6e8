// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"errors"
	"fmt"

	"byre.dev/byre/internal/p9/p9srv"
)

// tree is the state of an FS on Windows. What it is to hold, NTFS's handles
// and the attributes that WSL uses, is described in docs/posix.md.
type tree struct{}

// open refuses: this build has no head for NTFS.
func (fs *FS) open() error {
	return fmt.Errorf("sharing a Windows directory with a guest: %w", errors.ErrUnsupported)
}

// rootNode is not reached, for Open does not succeed.
func (fs *FS) rootNode() p9srv.Node { return nil }

func (fs *FS) close() error { return nil }
