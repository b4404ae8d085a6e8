// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package shim

import (
	"fmt"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
)

// hostRoot takes a single directory; Linux mounts cannot be made on this host.
func hostRoot(mounts []*types.Mount, _ string) (string, func() error, error) {
	if source := bindSource(mounts); source != "" {
		return source, nil, nil
	}
	return "", nil, fmt.Errorf("root file system: %s cannot be mounted on this host: use byre's snapshotter: %w",
		mounts[0].GetType(), errdefs.ErrNotImplemented)
}

func unmountRoot(string) error { return nil }
