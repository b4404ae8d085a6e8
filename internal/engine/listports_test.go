// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/filter"
)

func TestContainersAreFoundByTheirPorts(t *testing.T) {
	web := Record{Connections: map[string]*Attached{"bridge": {Ports: network.PortMap{
		network.MustParsePort("80/tcp"): {{HostPort: "8080"}}, network.MustParsePort("53/udp"): nil,
	}}}}
	for _, tc := range []struct {
		filters filter.Args
		want    bool
	}{
		{filter.Args{}, true},
		{filter.Args{"expose": {"80"}}, true},
		{filter.Args{"expose": {"80/udp"}}, false},
		{filter.Args{"expose": {"53/udp"}}, true},
		{filter.Args{"expose": {"50-60/udp"}}, true},
		{filter.Args{"expose": {"8080"}}, false},
		{filter.Args{"publish": {"8080"}}, true},
		{filter.Args{"publish": {"8000-8100/tcp"}}, true},
		{filter.Args{"publish": {"0-65535/udp"}}, false},
		{filter.Args{"publish": {"1", "8080"}}, true},
		{filter.Args{"publish": {"1"}, "expose": {"80"}}, true},
	} {
		sel, err := portFilters(tc.filters)
		if err != nil || sel.match(web) != tc.want {
			t.Errorf("%v: found %v, error %v; want %v", tc.filters, sel.match(web), err, tc.want)
		}
	}
	for _, s := range []string{"1:2", "many", ""} {
		if _, err := portFilters(filter.Args{"expose": {s}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("expose=%s: error %v", s, err)
		}
	}
}
