// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

func TestStatsCountWhatGoesOverTheNetworks(t *testing.T) {
	var s container.StatsResponse
	fill(&s, &stats.Metrics{Network: []*stats.NetworkStat{
		{Name: "eth0", RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8},
		{Name: "eth1", TxBytes: 9},
	}}, time.Now())
	want := map[string]container.NetworkStats{
		"eth0": {RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8},
		"eth1": {TxBytes: 9},
	}
	if diff := cmp.Diff(want, s.Networks); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
}
