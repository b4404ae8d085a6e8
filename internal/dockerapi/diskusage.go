// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"byre.dev/byre/internal/engine"
)

// usageTypes are the kinds of objects that are measured: all, unless the client
// names some, which those of API 1.42 can.
func usageTypes(r *call) (what engine.DiskUsageOptions, cache bool, err error) {
	names, given := r.Form["type"]
	if !given || r.before("1.42") {
		return engine.DiskUsageOptions{Images: true, Containers: true, Volumes: true}, true, nil
	}
	for _, name := range names {
		switch system.DiskUsageObject(name) {
		case system.ContainerObject:
			what.Containers = true
		case system.ImageObject:
			what.Images = true
		case system.VolumeObject:
			what.Volumes = true
		case system.BuildCacheObject:
			cache = true
		default:
			return what, cache, badRequest("unknown object type: %s", name)
		}
	}
	return what, cache, nil
}

// diskUsage answers with sums, and with what they are made of to clients that
// ask to be told all or speak an older API, which had nothing else.
func (a *api) diskUsage(w http.ResponseWriter, r *call) error {
	what, withCache, err := usageTypes(r)
	if err != nil {
		return err
	}
	du, err := a.engine.DiskUsage(r.Context(), what)
	if err != nil {
		return err
	}
	var cache []build.CacheRecord
	if withCache {
		if cache, err = a.cacheUsage(r); err != nil {
			return err
		}
	}
	if r.before("1.52") {
		if withCache && cache == nil {
			cache = []build.CacheRecord{}
		}
		return writeJSON(w, http.StatusOK, legacyUsage(r, du, what, cache))
	}
	report := system.DiskUsage{}
	if what.Images {
		report.ImageUsage = &du.ImageUsage
	}
	if what.Containers {
		report.ContainerUsage = containerUsage(du.Containers)
	}
	if what.Volumes {
		report.VolumeUsage = volumeUsage(du.Volumes)
	}
	if withCache {
		report.BuildCacheUsage = cacheReport(cache)
	}
	if !r.flag("verbose") {
		sumsOnly(report)
	}
	return writeJSON(w, http.StatusOK, report)
}

// sumsOnly leaves out the items.
func sumsOnly(report system.DiskUsage) {
	if u := report.ImageUsage; u != nil {
		u.Items = nil
	}
	if u := report.ContainerUsage; u != nil {
		u.Items = nil
	}
	if u := report.VolumeUsage; u != nil {
		u.Items = nil
	}
	if u := report.BuildCacheUsage; u != nil {
		u.Items = nil
	}
}

func legacyUsage(r *call, du engine.DiskUsage, what engine.DiskUsageOptions, cache []build.CacheRecord) oldUsage {
	old := oldUsage{LayersSize: du.ImageUsage.TotalSize, Containers: du.Containers, BuildCache: cache}
	if what.Images {
		old.Images = []any{}
		for _, sum := range du.ImageUsage.Items {
			old.Images = append(old.Images, withVirtualSize(r, sum))
		}
	}
	if what.Volumes {
		old.Volumes = volumesWithUsage(du.Volumes)
	}
	return old
}

func containerUsage(list []container.Summary) *container.DiskUsage {
	u := &container.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, c := range list {
		u.TotalSize += c.SizeRw
		if c.State == container.StateRunning || c.State == container.StatePaused {
			u.ActiveCount++
		} else {
			u.Reclaimable += c.SizeRw
		}
	}
	return u
}

func volumeUsage(list []engine.VolumeUsage) *volume.DiskUsage {
	u := &volume.DiskUsage{TotalCount: int64(len(list)), Items: volumesWithUsage(list)}
	for _, v := range list {
		u.TotalSize += v.Usage.Size
		if v.Usage.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += v.Usage.Size
		}
	}
	return u
}

func volumesWithUsage(list []engine.VolumeUsage) []volume.Volume {
	volumes := []volume.Volume{}
	for _, v := range list {
		described := volumeFor(v.Volume)
		described.UsageData = &v.Usage
		volumes = append(volumes, described)
	}
	return volumes
}
