// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	dockervolume "github.com/moby/moby/api/types/volume"

	"byre.dev/byre/internal/engine/filter"
	"byre.dev/byre/internal/engine/volume"
)

// DiskUsageOptions say what is measured.
type DiskUsageOptions struct {
	Images, Containers, Volumes bool
}

// DiskUsage is what the engine's objects take on disk. What was not asked for
// is empty.
type DiskUsage struct {
	// ImageUsage measures all images together.
	ImageUsage image.DiskUsage
	// Containers have their writable layers measured.
	Containers []container.Summary
	// Volumes are all there are.
	Volumes []VolumeUsage
}

// VolumeUsage is a volume with its size and users.
type VolumeUsage struct {
	volume.Volume
	Usage dockervolume.UsageData
}

// DiskUsage measures what it is asked for.
func (e *Engine) DiskUsage(ctx context.Context, what DiskUsageOptions) (DiskUsage, error) {
	var du DiskUsage
	var err error
	if what.Images {
		if du.ImageUsage, err = e.imageUsage(ctx); err != nil {
			return du, err
		}
	}
	if what.Containers {
		if du.Containers, err = e.List(ctx, ListOptions{All: true, Size: true, Filters: filter.Args{}}); err != nil {
			return du, err
		}
	}
	if what.Volumes {
		for _, v := range e.Volumes.List() {
			du.Volumes = append(du.Volumes, VolumeUsage{v, dockervolume.UsageData{
				Size: v.Size(), RefCount: int64(len(e.volumeUsers(v.Name))),
			}})
		}
	}
	return du, nil
}

func (e *Engine) imageUsage(ctx context.Context) (image.DiskUsage, error) {
	users := map[string]int64{}
	for _, u := range e.imageUses() {
		users[u.Image]++
	}
	list, err := e.Images.List(ctx, nil)
	if err != nil {
		return image.DiskUsage{}, err
	}
	usage, err := e.Images.Usage(ctx, func(id string) bool { return users[id] > 0 })
	if err != nil {
		return image.DiskUsage{}, err
	}
	du := image.DiskUsage{TotalCount: int64(len(list)), TotalSize: usage.Total, Reclaimable: usage.Reclaimable, Items: list}
	for i := range list {
		list[i].Containers, list[i].SharedSize = users[list[i].ID], usage.Shared[list[i].ID]
		if list[i].Containers > 0 {
			du.ActiveCount++
		}
	}
	return du, nil
}
