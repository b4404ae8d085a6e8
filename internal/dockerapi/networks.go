// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"maps"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/filter"
	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/engine/request"
)

func networkFor(n enginenet.Network) network.Network {
	resp := network.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.Subnet.IsValid(),
		IPAM:     network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Internal: n.Internal, Attachable: n.Attachable,
		Options: map[string]string{}, Labels: map[string]string{},
	}
	maps.Copy(resp.Options, n.Options)
	maps.Copy(resp.Labels, n.Labels)
	if n.Subnet.IsValid() {
		resp.IPAM.Config = append(resp.IPAM.Config, network.IPAMConfig{Subnet: n.Subnet, IPRange: n.Range, Gateway: n.Gateway})
	}
	return resp
}

func (a *api) networksList(w http.ResponseWriter, r *call) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	if err := f.Check("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return err
	}
	list := []network.Network{}
	for _, n := range a.engine.Networks.Networks() {
		if f.Has("dangling") && dangling != (n.Custom && !a.engine.NetworkInUse(n.Name)) || !matchNetwork(f, n) {
			continue
		}
		list = append(list, networkFor(n))
	}
	return writeJSON(w, http.StatusOK, list)
}

func matchNetwork(f filter.Args, n enginenet.Network) bool {
	kind := "builtin"
	if n.Custom {
		kind = "custom"
	}
	return f.Exact("type", kind) && f.Exact("scope", "local") && f.Exact("driver", n.Driver) &&
		f.Match("name", n.Name) && f.Prefix("id", n.ID) && f.Labels(n.Labels)
}

func (a *api) networksInspect(w http.ResponseWriter, r *call) error {
	n, err := a.engine.Networks.Get(r.name())
	if err != nil {
		return err
	}
	if scope := r.Form.Get("scope"); scope != "" && scope != "local" {
		return errdefs.ErrNotFound.WithMessage("network " + r.name() + " not found in scope " + scope)
	}
	return writeJSON(w, http.StatusOK, network.Inspect{
		Network: networkFor(n), Containers: a.engine.NetworkContainers(n.Name),
	})
}

func (a *api) networksCreate(w http.ResponseWriter, r *call) error {
	var req network.CreateRequest
	if err := r.request(request.NetworkCreate(), &req, false); err != nil {
		return err
	}
	if r.before("1.48") {
		req.EnableIPv4 = nil
	}
	n, err := a.engine.CreateNetwork(req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, network.CreateResponse{ID: n.ID})
}

func (a *api) networksRemove(w http.ResponseWriter, r *call) error {
	if err := a.engine.RemoveNetwork(r.Context(), r.name()); err != nil {
		return err
	}
	return done(w)
}

func (a *api) networksPrune(w http.ResponseWriter, r *call) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	removed, err := a.engine.PruneNetworks(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, network.PruneReport{NetworksDeleted: removed})
}

func (a *api) networksConnect(w http.ResponseWriter, r *call) error {
	var req network.ConnectRequest
	if err := r.request(request.NetworkConnect(), &req, false); err != nil {
		return err
	}
	if r.before("1.54") && req.EndpointConfig != nil {
		req.EndpointConfig.MacAddress = nil
	}
	return a.engine.ConnectNetwork(r.Context(), r.name(), req.Container, req.EndpointConfig)
}

func (a *api) networksDisconnect(w http.ResponseWriter, r *call) error {
	var req network.DisconnectRequest
	if err := r.request(request.NetworkDisconnect(), &req, false); err != nil {
		return err
	}
	return a.engine.DisconnectNetwork(r.Context(), r.name(), req.Container, req.Force)
}
