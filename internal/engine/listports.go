// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/filter"
)

// portSelection is the filters expose and publish: one port of either is
// enough, as in dockerd.
type portSelection struct {
	given           bool
	expose, publish []network.PortRange
}

// portFilters reads filters of the form "80", "80/udp" or "8000-8010/tcp".
func portFilters(f filter.Args) (portSelection, error) {
	sel := portSelection{given: f.Has("expose") || f.Has("publish")}
	for name, dst := range map[string]*[]network.PortRange{"expose": &sel.expose, "publish": &sel.publish} {
		for _, s := range f[name] {
			if strings.Contains(s, ":") {
				return sel, invalid("filter for '%s' should not contain ':': %s", name, s)
			}
			r, err := network.ParsePortRange(s)
			if err != nil {
				return sel, invalid("invalid filter '%s=%s': %v", name, s, err)
			}
			*dst = append(*dst, r)
		}
	}
	return sel, nil
}

func (s portSelection) match(r Record) bool {
	return !s.given || slices.ContainsFunc(portSummaries(r), func(p container.PortSummary) bool {
		return inRanges(s.expose, p.PrivatePort, p.Type) || p.PublicPort != 0 && inRanges(s.publish, p.PublicPort, p.Type)
	})
}

func inRanges(ranges []network.PortRange, port uint16, proto string) bool {
	return slices.ContainsFunc(ranges, func(r network.PortRange) bool {
		return string(r.Proto()) == proto && r.Start() <= port && port <= r.End()
	})
}
