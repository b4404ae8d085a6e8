// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
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
	if r.before("1.56") {
		req.HostConfig.Umask = nil
	}
	for port, bindings := range req.HostConfig.PortBindings {
		if len(bindings) == 0 {
			req.HostConfig.PortBindings[port] = []network.PortBinding{{}}
		}
	}
	return translateMAC(r, req, raw)
}

// translateMAC moves the MAC address of a container to its endpoint.
func translateMAC(r *call, req *container.CreateRequest, raw []byte) error {
	var legacy struct{ MacAddress network.HardwareAddr }
	if err := json.Unmarshal(raw, &legacy); err != nil {
		return badRequest("invalid MAC address: %v", err)
	}
	if len(legacy.MacAddress) == 0 {
		return nil
	}
	if !r.before("1.52") {
		return badRequest("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	for _, ep := range req.NetworkingConfig.EndpointsConfig {
		if ep != nil {
			ep.MacAddress = legacy.MacAddress
			return nil
		}
	}
	req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{
		network.NetworkDefault: {MacAddress: legacy.MacAddress},
	}
	return nil
}

// legacySettings are the fields of NetworkSettings that API 1.52 dropped.
type legacySettings struct {
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	*container.NetworkSettings
}

// inspectFor puts the description of a container in the form of the client's
// API.
func inspectFor(r *call, resp *container.InspectResponse) any {
	if r.before("1.48") {
		resp.ImageManifestDescriptor = nil
	}
	if !r.before("1.52") {
		return resp
	}
	resp.GraphDriver = &storage.DriverData{Name: resp.Driver, Data: map[string]string{}}
	resp.Storage = nil
	legacy := &legacySettings{NetworkSettings: resp.NetworkSettings}
	for _, ep := range resp.NetworkSettings.Networks {
		if ep.IPAddress.IsValid() {
			legacy.EndpointID, legacy.IPAddress, legacy.IPPrefixLen = ep.EndpointID, ep.IPAddress.String(), ep.IPPrefixLen
			legacy.Gateway, legacy.MacAddress = ep.Gateway.String(), ep.MacAddress.String()
		}
	}
	return struct {
		*container.InspectResponse
		NetworkSettings *legacySettings
	}{resp, legacy}
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
