// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"
	"slices"
)

// operations is the table of all operations that byre knows. What is not in it
// is answered with 501 and the name of the path.
func (a *api) operations() []operation {
	return slices.Concat(a.systemOperations(), a.containerOperations(), a.execOperations(), a.imageOperations(), a.otherOperations())
}

func (a *api) systemOperations() []operation {
	return []operation{
		{http.MethodGet, "/_ping", a.ping},
		{http.MethodHead, "/_ping", a.ping},
		{http.MethodGet, "/version", a.version},
		{http.MethodGet, "/info", a.info},
		{http.MethodGet, "/events", a.events},
		{http.MethodGet, "/system/df", a.diskUsage},
		{http.MethodPost, "/auth", nil},
	}
}

func (a *api) containerOperations() []operation {
	return []operation{
		{http.MethodGet, "/containers/json", a.containersList},
		{http.MethodPost, "/containers/create", a.containersCreate},
		{http.MethodPost, "/containers/prune", a.containersPrune},
		{http.MethodGet, "/containers/{name}/json", a.containersInspect},
		{http.MethodGet, "/containers/{name}/top", a.containersTop},
		{http.MethodGet, "/containers/{name}/logs", a.containersLogs},
		{http.MethodGet, "/containers/{name}/stats", a.containersStats},
		{http.MethodGet, "/containers/{name}/archive", a.archiveGet},
		{http.MethodHead, "/containers/{name}/archive", a.archiveStat},
		{http.MethodPut, "/containers/{name}/archive", a.archivePut},
		{http.MethodPost, "/containers/{name}/start", a.containersStart},
		{http.MethodPost, "/containers/{name}/stop", a.containersStop},
		{http.MethodPost, "/containers/{name}/restart", a.containersRestart},
		{http.MethodPost, "/containers/{name}/kill", a.containersKill},
		{http.MethodPost, "/containers/{name}/pause", a.containersPause},
		{http.MethodPost, "/containers/{name}/unpause", a.containersUnpause},
		{http.MethodPost, "/containers/{name}/wait", a.containersWait},
		{http.MethodPost, "/containers/{name}/resize", a.containersResize},
		{http.MethodPost, "/containers/{name}/attach", a.containersAttach},
		{http.MethodPost, "/containers/{name}/rename", a.containersRename},
		{http.MethodPost, "/containers/{name}/update", a.containersUpdate},
		{http.MethodPost, "/containers/{name}/exec", a.execCreate},
		{http.MethodDelete, "/containers/{name}", a.containersRemove},
		{http.MethodGet, "/containers/{name}/export", nil},
		{http.MethodGet, "/containers/{name}/changes", nil},
		{http.MethodGet, "/containers/{name}/attach/ws", nil},
	}
}

func (a *api) execOperations() []operation {
	return []operation{
		{http.MethodGet, "/exec/{name}/json", a.execInspect},
		{http.MethodPost, "/exec/{name}/start", a.execStart},
		{http.MethodPost, "/exec/{name}/resize", a.execResize},
	}
}

func (a *api) imageOperations() []operation {
	return []operation{
		{http.MethodGet, "/images/json", a.imagesList},
		{http.MethodPost, "/images/create", a.imagesCreate},
		{http.MethodPost, "/images/load", a.imagesLoad},
		{http.MethodPost, "/images/prune", a.imagesPrune},
		{http.MethodGet, "/images/get", a.imagesSave},
		{http.MethodGet, "/images/search", nil},
		{http.MethodGet, "/images/{name}/get", a.imagesSave},
		{http.MethodGet, "/images/{name}/json", a.imagesInspect},
		{http.MethodGet, "/images/{name}/history", a.imagesHistory},
		{http.MethodPost, "/images/{name}/tag", a.imagesTag},
		{http.MethodPost, "/images/{name}/push", nil},
		{http.MethodDelete, "/images/{name}", a.imagesRemove},
		{http.MethodPost, "/commit", nil},
		{http.MethodPost, "/build", nil},
		{http.MethodPost, "/build/prune", nil},
		{http.MethodPost, "/session", nil},
		{http.MethodPost, "/grpc", nil},
		{http.MethodGet, "/distribution/{name}/json", nil},
	}
}

func (a *api) otherOperations() []operation {
	return []operation{
		{http.MethodGet, "/volumes", a.volumesList},
		{http.MethodPost, "/volumes/create", a.volumesCreate},
		{http.MethodPost, "/volumes/prune", a.volumesPrune},
		{http.MethodGet, "/volumes/{name}", a.volumesInspect},
		{http.MethodDelete, "/volumes/{name}", a.volumesRemove},
		{http.MethodGet, "/networks", a.networksList},
		{http.MethodGet, "/networks/{name}", a.networksInspect},
		{http.MethodPost, "/networks/create", nil},
		{http.MethodPost, "/networks/prune", nil},
		{http.MethodPost, "/networks/{name}/connect", nil},
		{http.MethodPost, "/networks/{name}/disconnect", nil},
		{http.MethodDelete, "/networks/{name}", nil},
	}
}
