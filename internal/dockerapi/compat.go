// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// translate brings a request to create a container from an older API to the
// newest, as moby's router does.
func translate(r *call, req *container.CreateRequest, raw []byte) error {
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	if r.before("1.42") {
		req.HostConfig.ConsoleSize = [2]uint{}
	}
	if r.before("1.43") {
		req.HostConfig.Annotations = nil
	}
	if r.before("1.44") && req.Healthcheck != nil {
		req.Healthcheck.StartInterval = 0
	}
	if n := req.NetworkingConfig; r.before("1.44") && n != nil && len(n.EndpointsConfig) > 1 {
		return badRequest("Container cannot be created with multiple network endpoints: %s", strings.Join(slices.Sorted(maps.Keys(n.EndpointsConfig)), ", "))
	}
	if n := req.NetworkingConfig; r.before("1.48") && n != nil {
		for _, ep := range n.EndpointsConfig {
			if ep != nil {
				ep.GwPriority = 0
			}
		}
	}
	if r.before("1.56") {
		req.HostConfig.Umask = nil
	}
	for i := range req.HostConfig.Mounts {
		if err := translateMount(r, &req.HostConfig.Mounts[i]); err != nil {
			return err
		}
	}
	for port, bindings := range req.HostConfig.PortBindings {
		if len(bindings) == 0 {
			req.HostConfig.PortBindings[port] = []network.PortBinding{{}}
		}
	}
	return translateMAC(r, req, raw)
}

// translateMount drops what the client's API ignored of a mount and refuses
// what it cannot have meant.
func translateMount(r *call, m *mount.Mount) error {
	if r.before("1.42") {
		if m.Type != mount.TypeVolume {
			m.VolumeOptions = nil
		}
		if m.Type != mount.TypeTmpfs {
			m.TmpfsOptions = nil
		}
		if m.BindOptions != nil {
			m.BindOptions.CreateMountpoint = false
		}
	} else {
		for _, o := range []struct {
			name  string
			given bool
			of    mount.Type
		}{
			{"VolumeOptions", m.VolumeOptions != nil, mount.TypeVolume}, {"BindOptions", m.BindOptions != nil, mount.TypeBind},
			{"TmpfsOptions", m.TmpfsOptions != nil, mount.TypeTmpfs},
		} {
			if o.given && m.Type != o.of {
				return badRequest("%s must not be specified on mount type %q", o.name, m.Type)
			}
		}
	}
	switch {
	case r.before("1.44") && m.Type == mount.TypeBind && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive:
		return badRequest("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
	case r.before("1.45") && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "":
		return badRequest("VolumeOptions.Subpath needs API v1.45 or newer")
	case r.before("1.48") && m.Type == mount.TypeImage:
		return badRequest(`Mount type "Image" needs API v1.48 or newer`)
	}
	return nil
}

// translateMAC moves the MAC address of a container to its endpoint on the network
// of its mode. Before API 1.44 an endpoint had none of its own, since 1.52 a
// container has none.
func translateMAC(r *call, req *container.CreateRequest, raw []byte) error {
	var legacy struct{ MacAddress network.HardwareAddr }
	if err := json.Unmarshal(raw, &legacy); err != nil {
		return badRequest("invalid MAC address: %v", err)
	}
	if n := req.NetworkingConfig; r.before("1.44") && n != nil {
		for _, ep := range n.EndpointsConfig {
			if ep != nil {
				ep.MacAddress = nil
			}
		}
	}
	if len(legacy.MacAddress) == 0 {
		return nil
	}
	if !r.before("1.52") {
		return badRequest("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	if m := req.HostConfig.NetworkMode; m.IsHost() || m.IsContainer() || m.IsNone() {
		return badRequest("conflicting options: mac-address and the network mode")
	}
	return setMAC(req, legacy.MacAddress)
}

// setMAC gives the endpoint on the container's main network an address. A lone
// endpoint is that one under whatever name: names and IDs mean the same network.
func setMAC(req *container.CreateRequest, mac network.HardwareAddr) error {
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	all := req.NetworkingConfig.EndpointsConfig
	if all == nil {
		all = map[string]*network.EndpointSettings{}
		req.NetworkingConfig.EndpointsConfig = all
	}
	name := cmp.Or(req.HostConfig.NetworkMode.NetworkName(), network.NetworkDefault)
	if _, ok := all[name]; !ok && len(all) == 1 {
		name = slices.Collect(maps.Keys(all))[0]
	}
	if _, ok := all[name]; !ok && len(all) > 0 {
		return badRequest("if a container-wide MAC address is supplied, HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	if all[name] == nil {
		all[name] = &network.EndpointSettings{}
	}
	if own := all[name].MacAddress; len(own) > 0 && own.String() != mac.String() {
		return badRequest("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	all[name].MacAddress = mac
	return nil
}

// prefixed puts text before an error and keeps its class.
func prefixed(text string, err error) error {
	for _, s := range statuses() {
		if statusOf(err) == s.status {
			if with, ok := s.class.(interface{ WithMessage(string) error }); ok {
				return with.WithMessage(text + ": " + err.Error())
			}
		}
	}
	return fmt.Errorf("%s: %w", text, err)
}
