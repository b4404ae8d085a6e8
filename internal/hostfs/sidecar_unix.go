// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"byre.dev/byre/internal/linux"
)

// sidecar keeps stored metadata of files that cannot carry it.
type sidecar struct {
	path string
}

func (s *sidecar) get(fileID) (stored, bool)      { return stored{}, false }
func (s *sidecar) put(fileID, stored) linux.Errno { return linux.EOPNOTSUPP }
func (s *sidecar) close() error                   { return nil }
