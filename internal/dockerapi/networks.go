// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/network"

	enginenet "byre.dev/byre/internal/engine/network"
)

func networkFor(n enginenet.Network) network.Network {
	resp := network.Network{
		Name: n.Name, ID: n.ID, Scope: "local", Driver: n.Driver, EnableIPv4: n.Subnet.IsValid(),
		IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	if n.Subnet.IsValid() {
		resp.IPAM.Config = append(resp.IPAM.Config, network.IPAMConfig{Subnet: n.Subnet, Gateway: n.Gateway})
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
	list := []network.Network{}
	for _, n := range a.engine.Networks.Networks() {
		builtin := f.Exact("type", "builtin") && f.Exact("scope", "local") && f.Exact("dangling", "false")
		if builtin && f.Exact("driver", n.Driver) && f.Match("name", n.Name) && f.Prefix("id", n.ID) && !f.Has("label") {
			list = append(list, networkFor(n))
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *api) networksInspect(w http.ResponseWriter, r *call) error {
	n, err := a.engine.Networks.Get(r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, network.Inspect{
		Network: networkFor(n), Containers: a.engine.NetworkContainers(n.Name),
	})
}
