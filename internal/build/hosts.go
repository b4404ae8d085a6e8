// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
)

const (
	// HostGateway stands for the host's address among the hosts of a build.
	HostGateway = "host-gateway"
	// addHosts is the frontend's attribute, NAME=ADDRESS divided by commas.
	addHosts = "add-hosts"
	// gatewayLabel is the worker's label with the address, dockerd's own name,
	// which buildx reads as well.
	gatewayLabel = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
)

// withGateway puts the host's address, as builds reach it, where a build names
// host-gateway.
func withGateway(ctx context.Context, client controlapi.ControlClient, req *controlapi.SolveRequest) error {
	hosts := strings.Split(req.FrontendAttrs[addHosts], ",")
	if !slices.ContainsFunc(hosts, func(h string) bool { return strings.HasSuffix(h, "="+HostGateway) }) {
		return nil
	}
	workers, err := client.ListWorkers(ctx, &controlapi.ListWorkersRequest{})
	if err != nil {
		return fmt.Errorf("ask for the host's address: %w", err)
	}
	for _, w := range workers.Record {
		if ip := w.Labels[gatewayLabel]; ip != "" {
			for i, h := range hosts {
				if name, ok := strings.CutSuffix(h, "="+HostGateway); ok {
					hosts[i] = name + "=" + ip
				}
			}
			req.FrontendAttrs[addHosts] = strings.Join(hosts, ",")
			return nil
		}
	}
	return errors.New("the builder does not know the host's address, which host-gateway stands for: give --add-host an address")
}
