// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/disk"
)

// makeScratch makes a scratch disk of the size that the labels ask for.
func (s *Snapshotter) makeScratch(path string, labels map[string]string) error {
	for _, l := range []string{snapshots.LabelSnapshotUIDMapping, snapshots.LabelSnapshotGIDMapping} {
		if labels[l] != "" {
			return fmt.Errorf("label %s: owners are not mapped outside the guest: %w", l, errdefs.ErrNotImplemented)
		}
	}
	_, err := os.Stat(s.cfg.Template)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("scratch disk template %s is missing: build the guest image: %w: %w",
			s.cfg.Template, errdefs.ErrFailedPrecondition, err)
	}
	if err != nil {
		return fmt.Errorf("scratch disk template: %w", err)
	}
	size := s.cfg.ScratchSize
	if v, ok := labels[snapshots.LabelSnapshotMaxSize]; ok {
		if size, err = scratchSize(v); err != nil {
			return err
		}
	}
	return disk.Scratch(path, s.cfg.Template, size)
}

// scratchSize reads the size label.
func scratchSize(v string) (int64, error) {
	size, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("label %s: %q is not a size in bytes: %w",
			snapshots.LabelSnapshotMaxSize, v, errdefs.ErrInvalidArgument)
	}
	if size < disk.MinScratch || size > disk.MaxScratch {
		return 0, fmt.Errorf("label %s: %w, not %d bytes: %w",
			snapshots.LabelSnapshotMaxSize, disk.ErrSize, size, errdefs.ErrInvalidArgument)
	}
	return size, nil
}
