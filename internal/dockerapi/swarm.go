// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/plugin"
)

const (
	// notSwarm is why operations of swarm are refused, as dockerd does that is
	// in none: clients that look everywhere for a name expect it.
	notSwarm = "503: this node is in no swarm, and cannot be"
	// noSwarm is why one cannot be made.
	noSwarm = "byre runs containers on one host; it makes and joins no swarm"
	// noPlugins is why there are none.
	noPlugins = "byre has no plugins of drivers"
)

// swarmOperations are those of a swarm's manager.
func (a *api) swarmOperations() []operation {
	ops := []operation{
		{http.MethodGet, "/swarm", a.notManager, notSwarm},
		{http.MethodPost, "/swarm/init", nil, noSwarm},
		{http.MethodPost, "/swarm/join", nil, noSwarm},
		{http.MethodPost, "/swarm/leave", a.notMember, notSwarm},
		{http.MethodPost, "/swarm/update", a.notManager, notSwarm},
		{http.MethodGet, "/swarm/unlockkey", a.notManager, notSwarm},
		{http.MethodPost, "/swarm/unlock", a.notMember, notSwarm},
		{http.MethodGet, "/nodes", a.notManager, notSwarm},
		{http.MethodGet, "/nodes/{id}", a.notManager, notSwarm},
		{http.MethodDelete, "/nodes/{id}", a.notManager, notSwarm},
		{http.MethodPost, "/nodes/{id}/update", a.notManager, notSwarm},
		{http.MethodGet, "/tasks", a.notManager, notSwarm},
		{http.MethodGet, "/tasks/{id}/logs", a.notManager, notSwarm},
		{http.MethodGet, "/tasks/{id}", a.notManager, notSwarm},
		{http.MethodGet, "/services/{id}/logs", a.notManager, notSwarm},
	}
	for _, kind := range []string{"/services", "/secrets", "/configs"} {
		ops = append(ops,
			operation{http.MethodGet, kind, a.notManager, notSwarm},
			operation{http.MethodPost, kind + "/create", a.notManager, notSwarm},
			operation{http.MethodGet, kind + "/{id}", a.notManager, notSwarm},
			operation{http.MethodDelete, kind + "/{id}", a.notManager, notSwarm},
			operation{http.MethodPost, kind + "/{id}/update", a.notManager, notSwarm},
		)
	}
	return ops
}

func (a *api) notManager(http.ResponseWriter, *call) error {
	return errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager. byre runs containers on one host and has no swarm")
}

func (a *api) notMember(http.ResponseWriter, *call) error {
	return errdefs.ErrUnavailable.WithMessage("This node is not part of a swarm")
}

// pluginOperations are those of plugins, of which there are none.
func (a *api) pluginOperations() []operation {
	return []operation{
		{http.MethodGet, "/plugins", a.pluginsList, "the list is empty: " + noPlugins},
		{http.MethodGet, "/plugins/privileges", nil, noPlugins},
		{http.MethodGet, "/plugins/{name}/json", a.noSuchPlugin, "404: " + noPlugins},
		{http.MethodPost, "/plugins/pull", nil, noPlugins},
		{http.MethodPost, "/plugins/create", nil, noPlugins},
		{http.MethodDelete, "/plugins/{name}", a.noSuchPlugin, "404: " + noPlugins},
		{http.MethodPost, "/plugins/{name}/enable", a.noSuchPlugin, "404: " + noPlugins},
		{http.MethodPost, "/plugins/{name}/disable", a.noSuchPlugin, "404: " + noPlugins},
		{http.MethodPost, "/plugins/{name}/upgrade", a.noSuchPlugin, "404: " + noPlugins},
		{http.MethodPost, "/plugins/{name}/push", a.noSuchPlugin, "404: " + noPlugins},
		{http.MethodPost, "/plugins/{name}/set", a.noSuchPlugin, "404: " + noPlugins},
	}
}

func (a *api) pluginsList(w http.ResponseWriter, _ *call) error {
	return writeJSON(w, http.StatusOK, plugin.ListResponse{})
}

func (a *api) noSuchPlugin(_ http.ResponseWriter, r *call) error {
	return errdefs.ErrNotFound.WithMessage("plugin " + r.name() + " not found: " + noPlugins)
}
