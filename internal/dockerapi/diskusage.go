// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
)

// diskUsage answers in the form that API 1.52 replaced, too: clients of either
// form find theirs.
func (a *api) diskUsage(w http.ResponseWriter, r *call) error {
	du, err := a.engine.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	cache, err := a.cacheUsage(r)
	if err != nil {
		return err
	}
	if !r.before("1.52") {
		report := du.Report()
		report.BuildCacheUsage = cacheReport(cache)
		return writeJSON(w, http.StatusOK, report)
	}
	if cache == nil {
		cache = []build.CacheRecord{}
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
		BuildCache []build.CacheRecord
	}{du.LayersSize, du.Images, du.Containers, volumes, cache})
}
