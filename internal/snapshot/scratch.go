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
	st, err := os.Stat(s.cfg.Template)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("scratch disk template %s is missing: build the guest image: %w: %w",
			s.cfg.Template, errdefs.ErrFailedPrecondition, err)
	}
	if err != nil {
		return fmt.Errorf("scratch disk template: %w", err)
	}
	size := s.cfg.ScratchSize
	if v, ok := labels[snapshots.LabelSnapshotMaxSize]; ok {
		if size, err = scratchSize(v, st.Size()); err != nil {
			return err
		}
	}
	return disk.Clone(path, s.cfg.Template, size)
}

// scratchSize reads the size label. The smallest disk is the template.
func scratchSize(v string, smallest int64) (int64, error) {
	size, err := strconv.ParseInt(v, 10, 64)
	if err != nil || size <= 0 {
		return 0, fmt.Errorf("label %s: %q is not a size in bytes: %w",
			snapshots.LabelSnapshotMaxSize, v, errdefs.ErrInvalidArgument)
	}
	if size < smallest {
		return 0, fmt.Errorf("size %d of the scratch disk is less than the smallest, %d: %w",
			size, smallest, errdefs.ErrInvalidArgument)
	}
	// Whole blocks of the file system on it.
	return (size + 4095) &^ 4095, nil
}
