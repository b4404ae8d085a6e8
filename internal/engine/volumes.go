// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"byre.dev/byre/internal/engine/filter"
	"byre.dev/byre/internal/engine/volume"
)

// CreateVolume returns the volume of that name, made if it is missing.
func (e *Engine) CreateVolume(name string, labels, options map[string]string) (volume.Volume, error) {
	v, made, err := e.Volumes.Create(name, labels, options)
	if made {
		e.Events.Publish(events.VolumeEventType, events.ActionCreate, v.Name, map[string]string{"driver": "local"})
	}
	return v, err
}

// ListVolumes returns the volumes that match the filters.
func (e *Engine) ListVolumes(f filter.Args) ([]volume.Volume, error) {
	if err := f.Check("dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	var list []volume.Volume
	for _, v := range e.Volumes.List() {
		if f.Has("dangling") {
			want, err := f.Bool("dangling", false)
			if err != nil {
				return nil, err
			}
			if want != (len(e.volumeUsers(v.Name)) == 0) {
				continue
			}
		}
		if f.Exact("driver", "local") && f.Match("name", v.Name) && f.Labels(v.Labels) {
			list = append(list, v)
		}
	}
	return list, nil
}

// PruneVolumes removes the volumes that no container mounts: anonymous ones,
// or all of them with the filter all.
func (e *Engine) PruneVolumes(f filter.Args) (removed []string, freed uint64, err error) {
	removed = []string{}
	if err := f.Check("all", "label"); err != nil {
		return nil, 0, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range e.Volumes.List() {
		if !all && !v.Anonymous || !f.Labels(v.Labels) || len(e.volumeUsers(v.Name)) > 0 {
			continue
		}
		size := v.Size()
		switch err := e.RemoveVolume(v.Name, false); {
		case errdefs.IsConflict(err), errdefs.IsNotFound(err):
			// A container has come to use it, or another client was quicker.
			continue
		case err != nil:
			return removed, freed, err
		}
		removed = append(removed, v.Name)
		freed += uint64(size)
	}
	e.publishPrune(events.VolumeEventType, freed)
	return removed, freed, nil
}
