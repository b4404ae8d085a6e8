// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"
	"slices"
)

// operations is the table of all operations that byre knows. What is not in it
// is not found, as in dockerd.
func (a *api) operations() []operation {
	return slices.Concat(a.systemOperations(), a.containerOperations(), a.execOperations(), a.imageOperations(),
		a.volumeOperations(), a.networkOperations(), a.pluginOperations(), a.swarmOperations())
}

func (a *api) systemOperations() []operation {
	return []operation{
		{http.MethodGet, "/_ping", a.ping, ""},
		{http.MethodHead, "/_ping", a.ping, ""},
		{http.MethodGet, "/version", a.version, ""},
		{http.MethodGet, "/info", a.info, "swarm is inactive; fields of kernel features are those of the guest"},
		{http.MethodGet, "/events", a.events, ""},
		{http.MethodGet, "/system/df", a.diskUsage, "of a builder that does not run the cache is one record, its disk"},
		{http.MethodPost, "/auth", a.auth, "no identity token is given out"},
	}
}

func (a *api) containerOperations() []operation {
	return []operation{
		{http.MethodGet, "/containers/json", a.containersList, "the filter isolation is refused"},
		{http.MethodPost, "/containers/create", a.containersCreate, "fields as listed below"},
		{http.MethodPost, "/containers/prune", a.containersPrune, ""},
		{http.MethodGet, "/containers/{id}/json", a.containersInspect, ""},
		{http.MethodGet, "/containers/{id}/top", a.containersTop, "the numbers are the machine's; of the arguments of ps there are -e, -A, -a, -x, -w, -f, u and -o"},
		{http.MethodGet, "/containers/{id}/logs", a.containersLogs, ""},
		{http.MethodGet, "/containers/{id}/stats", a.containersStats, ""},
		{http.MethodGet, "/containers/{id}/archive", a.archiveGet, ""},
		{http.MethodHead, "/containers/{id}/archive", a.archiveStat, ""},
		{http.MethodPut, "/containers/{id}/archive", a.archivePut, ""},
		{http.MethodPost, "/containers/{id}/start", a.containersStart, "checkpoints are refused"},
		{http.MethodPost, "/containers/{id}/stop", a.containersStop, ""},
		{http.MethodPost, "/containers/{id}/restart", a.containersRestart, ""},
		{http.MethodPost, "/containers/{id}/kill", a.containersKill, ""},
		{http.MethodPost, "/containers/{id}/pause", a.containersPause, ""},
		{http.MethodPost, "/containers/{id}/unpause", a.containersUnpause, ""},
		{http.MethodPost, "/containers/{id}/wait", a.containersWait, ""},
		{http.MethodPost, "/containers/{id}/resize", a.containersResize, ""},
		{http.MethodPost, "/containers/{id}/attach", a.containersAttach, ""},
		{http.MethodPost, "/containers/{id}/rename", a.containersRename, ""},
		{http.MethodPost, "/containers/{id}/update", a.containersUpdate, "fields as listed below; ulimits change with the next start"},
		{http.MethodPost, "/containers/{id}/exec", a.execCreate, ""},
		{http.MethodDelete, "/containers/{id}", a.containersRemove, "the parameter link is refused: there are no links"},
		{http.MethodGet, "/containers/{id}/export", a.containersExport, ""},
		{http.MethodGet, "/containers/{id}/changes", a.containersChanges, ""},
		{http.MethodGet, "/containers/{id}/attach/ws", nil, "attach over HTTP is served; browsers cannot reach the socket"},
	}
}

func (a *api) execOperations() []operation {
	return []operation{
		{http.MethodGet, "/exec/{id}/json", a.execInspect, ""},
		{http.MethodPost, "/exec/{id}/start", a.execStart, ""},
		{http.MethodPost, "/exec/{id}/resize", a.execResize, ""},
	}
}

func (a *api) imageOperations() []operation {
	return []operation{
		{http.MethodGet, "/images/json", a.imagesList, "of identities (signatures) nothing is known"},
		{http.MethodPost, "/images/create", a.imagesCreate, "archives compressed by xz are refused"},
		{http.MethodPost, "/images/load", a.imagesLoad, ""},
		{http.MethodPost, "/images/prune", a.imagesPrune, ""},
		{http.MethodGet, "/images/get", a.imagesSave, ""},
		{http.MethodGet, "/images/search", nil, "registries have no common search; the Docker Hub has one in the browser"},
		{http.MethodGet, "/images/{name}/get", a.imagesSave, ""},
		{http.MethodGet, "/images/{name}/json", a.imagesInspect, "of identities (signatures) nothing is known"},
		{http.MethodGet, "/images/{name}/attestations", a.imagesAttestations, ""},
		{http.MethodGet, "/images/{name}/history", a.imagesHistory, ""},
		{http.MethodPost, "/images/{name}/tag", a.imagesTag, ""},
		{http.MethodPost, "/images/{name}/push", a.imagesPush, "of an image with platforms that are not here, this host's is pushed"},
		{http.MethodDelete, "/images/{name}", a.imagesRemove, "a platform that a running container uses is not removed"},
		{http.MethodPost, "/commit", a.commit, ""},
		{http.MethodPost, "/build", a.build, "by BuildKit, for clients of the first builder too; parameters as listed below"},
		{http.MethodPost, "/build/cancel", a.buildCancel, ""},
		{http.MethodPost, "/build/prune", a.buildPrune, "the filter label is refused: records of the cache have none"},
		{http.MethodPost, "/session", a.session, ""},
		{http.MethodPost, "/grpc", a.grpc, ""},
		{http.MethodGet, "/distribution/{name}/json", a.distributionInspect, ""},
	}
}

func (a *api) volumeOperations() []operation {
	return []operation{
		{http.MethodGet, "/volumes", a.volumesList, ""},
		{http.MethodPost, "/volumes/create", a.volumesCreate, "fields as listed below; a volume without options is an ext4 disk"},
		{http.MethodPost, "/volumes/prune", a.volumesPrune, ""},
		{http.MethodGet, "/volumes/{name}", a.volumesInspect, "the mount point of a volume that is a disk is an empty directory: the host does not mount it"},
		{http.MethodDelete, "/volumes/{name}", a.volumesRemove, ""},
		{http.MethodPut, "/volumes/{name}", a.notManager, notSwarm},
	}
}

func (a *api) networkOperations() []operation {
	return []operation{
		{http.MethodGet, "/networks", a.networksList, ""},
		{http.MethodGet, "/networks/{id}", a.networksInspect, ""},
		{http.MethodPost, "/networks/create", a.networksCreate, "fields as listed below"},
		{http.MethodPost, "/networks/prune", a.networksPrune, "networks of stopped containers stay"},
		{http.MethodPost, "/networks/{id}/connect", a.networksConnect, "a container is on four networks at most"},
		{http.MethodPost, "/networks/{id}/disconnect", a.networksDisconnect, ""},
		{http.MethodDelete, "/networks/{id}", a.networksRemove, ""},
	}
}
