// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"maps"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/volume"

	"byre.dev/byre/internal/engine/request"
	enginevolume "byre.dev/byre/internal/engine/volume"
)

func volumeFor(v enginevolume.Volume) volume.Volume {
	// The volume's own map is read by other requests meanwhile.
	labels := maps.Clone(v.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	if v.Anonymous {
		labels["com.docker.volume.anonymous"] = ""
	}
	options := v.Options
	if options == nil {
		options = map[string]string{}
	}
	return volume.Volume{
		Name: v.Name, CreatedAt: v.Created.Format(time.RFC3339), Driver: "local", Labels: labels,
		Mountpoint: v.Mountpoint(), Options: options, Scope: "local",
	}
}

func (a *api) volumesList(w http.ResponseWriter, r *call) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := a.engine.ListVolumes(f)
	if err != nil {
		return err
	}
	resp := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	for _, v := range list {
		resp.Volumes = append(resp.Volumes, volumeFor(v))
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (a *api) volumesCreate(w http.ResponseWriter, r *call) error {
	var req volume.CreateRequest
	if err := r.request(request.VolumeCreate(), &req, true); err != nil {
		return err
	}
	v, err := a.engine.CreateVolume(req.Name, req.Labels, req.DriverOpts)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, volumeFor(v))
}

func (a *api) volumesInspect(w http.ResponseWriter, r *call) error {
	v, err := a.engine.Volumes.Get(r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, volumeFor(v))
}

func (a *api) volumesRemove(w http.ResponseWriter, r *call) error {
	if err := a.engine.RemoveVolume(r.name(), r.flag("force")); err != nil {
		return err
	}
	return done(w)
}

func (a *api) volumesPrune(w http.ResponseWriter, r *call) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	if r.before("1.42") {
		f["all"] = []string{"true"} // older clients mean volumes with a name, too
	}
	removed, freed, err := a.engine.PruneVolumes(f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, volume.PruneReport{VolumesDeleted: removed, SpaceReclaimed: freed})
}
