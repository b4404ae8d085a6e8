// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	dockervolume "github.com/moby/moby/api/types/volume"

	"byre.dev/byre/internal/engine/filter"
	"byre.dev/byre/internal/engine/volume"
)

// DiskUsage is what the engine's objects take on disk.
type DiskUsage struct {
	// LayersSize is what images take, shared layers counted once.
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []VolumeUsage
}

// VolumeUsage is a volume with its size and users.
type VolumeUsage struct {
	volume.Volume
	Usage dockervolume.UsageData
}

// DiskUsage measures everything.
func (e *Engine) DiskUsage(ctx context.Context) (DiskUsage, error) {
	var du DiskUsage
	var err error
	if du.Images, err = e.Images.List(ctx, nil); err != nil {
		return du, err
	}
	if du.Containers, err = e.List(ctx, ListOptions{All: true, Size: true, Filters: filter.Args{}}); err != nil {
		return du, err
	}
	users := map[string]int64{}
	for _, u := range e.imageUses() {
		users[u.Image]++
	}
	for i := range du.Images {
		du.Images[i].Containers = users[du.Images[i].ID]
	}
	if du.LayersSize, err = e.Images.TotalSize(ctx); err != nil {
		return du, err
	}
	for _, v := range e.Volumes.List() {
		du.Volumes = append(du.Volumes, VolumeUsage{v, dockervolume.UsageData{
			Size: v.Size(), RefCount: int64(len(e.volumeUsers(v.Name))),
		}})
	}
	return du, nil
}

// Report puts the measurements in the form of API 1.52.
func (du DiskUsage) Report() system.DiskUsage {
	images := &image.DiskUsage{TotalCount: int64(len(du.Images)), TotalSize: du.LayersSize, Items: du.Images}
	for _, i := range du.Images {
		if i.Containers > 0 {
			images.ActiveCount++
		} else {
			images.Reclaimable += i.Size
		}
	}
	images.Reclaimable = min(images.Reclaimable, images.TotalSize)
	containers := &container.DiskUsage{TotalCount: int64(len(du.Containers)), Items: du.Containers}
	for _, c := range du.Containers {
		containers.TotalSize += c.SizeRw
		if c.State == container.StateRunning || c.State == container.StatePaused {
			containers.ActiveCount++
		} else {
			containers.Reclaimable += c.SizeRw
		}
	}
	volumes := &dockervolume.DiskUsage{TotalCount: int64(len(du.Volumes))}
	for _, v := range du.Volumes {
		volumes.TotalSize += v.Usage.Size
		if v.Usage.RefCount > 0 {
			volumes.ActiveCount++
		} else {
			volumes.Reclaimable += v.Usage.Size
		}
	}
	return system.DiskUsage{
		ImageUsage: images, ContainerUsage: containers, VolumeUsage: volumes, BuildCacheUsage: &build.DiskUsage{},
	}
}
