// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"
)

// diskUsage answers in the form that API 1.52 replaced, too: clients of either
// form find theirs.
func (a *api) diskUsage(w http.ResponseWriter, r *call) error {
	du, err := a.engine.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	if !r.before("1.52") {
		return writeJSON(w, http.StatusOK, du.Report())
	}
	volumes := []any{}
	for _, v := range du.Volumes {
		described := volumeFor(v.Volume)
		described.UsageData = &v.Usage
		volumes = append(volumes, described)
	}
	return writeJSON(w, http.StatusOK, struct {
		LayersSize int64
		Images     any
		Containers any
		Volumes    any
		BuildCache []any
	}{du.LayersSize, du.Images, du.Containers, volumes, []any{}})
}
