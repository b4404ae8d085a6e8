// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// hostRoot makes a root file system of the host's mounts visible in a directory
// and returns it with what undoes that.
func hostRoot(mounts []*types.Mount, rootfs string) (dir string, undo func() error, err error) {
	if source := bindSource(mounts); source != "" {
		return source, nil, nil
	}
	if os.Geteuid() != 0 {
		return "", nil, fmt.Errorf("root file system: %s must be mounted on this host, which takes root: use byre's snapshotter, or native, erofs or blockfile: %w",
			mounts[0].GetType(), errdefs.ErrPermissionDenied)
	}
	undo = func() error {
		if err := mount.UnmountAll(rootfs, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount root file system: %w", err)
		}
		return nil
	}
	if err := mount.All(mount.FromProto(mounts), rootfs); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount root file system on this host: %w", err), undo())
	}
	return rootfs, undo, nil
}

// unmountRoot takes away what a shim that died had mounted on a directory.
func unmountRoot(rootfs string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return mount.UnmountAll(rootfs, unix.MNT_DETACH)
}
