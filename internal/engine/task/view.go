// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/snapshots"
)

// A container that mounts images has a read-only snapshot of each: their layers
// stay as long as the container, whatever becomes of the images' names.

func viewKey(id string, index int) string { return fmt.Sprintf("%s-image-%d", id, index) }

func (r *Runner) hasView(ctx context.Context, id string, index int) bool {
	_, err := r.snapshots().Stat(ctx, viewKey(id, index))
	return err == nil
}

// View makes a read-only snapshot for a container of an image's layers. A
// container's are numbered from 0 without gaps and stay until Discard.
func (r *Runner) View(ctx context.Context, id string, index int, parent string) error {
	if _, err := r.snapshots().View(ctx, viewKey(id, index), parent, snapshots.WithLabels(kept())); err != nil {
		return fmt.Errorf("prepare snapshot of image: %w", err)
	}
	return nil
}

// ViewLayers returns the disk images of a View, the top layer first.
func (r *Runner) ViewLayers(ctx context.Context, id string, index int) ([]string, error) {
	mounts, err := r.snapshots().Mounts(ctx, viewKey(id, index))
	if err != nil {
		return nil, fmt.Errorf("find disks of image: %w", err)
	}
	var layers []string
	for _, m := range mounts {
		if m.Type == "ext4" {
			layers = append(layers, m.Source)
		}
	}
	return layers, nil
}
