// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/engine/request"
)

func withResources(s *specs.Spec, c Container) error {
	r := Resources(&c.Host.Resources)
	devices, allowed, err := request.Devices(c.Host.Devices)
	if err != nil {
		return invalid("%v", err)
	}
	own, err := request.DeviceRules(c.Host.DeviceCgroupRules)
	if err != nil {
		return invalid("%v", err)
	}
	s.Linux.Devices = devices
	r.Devices = slices.Concat(deviceRules(c.Host.Privileged), allowed, own)
	s.Linux.Resources = r
	return nil
}

// Resources makes the guest's cgroup limits from a request.
func Resources(h *container.Resources) *specs.LinuxResources {
	return &specs.LinuxResources{Memory: memory(h), CPU: cpu(h), Pids: pids(h)}
}

func memory(h *container.Resources) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if h.Memory > 0 {
		m.Limit = &h.Memory
	}
	if h.MemoryReservation > 0 {
		m.Reservation = &h.MemoryReservation
	}
	if h.MemorySwap != 0 {
		m.Swap = &h.MemorySwap
	}
	if *m == (specs.LinuxMemory{}) {
		return nil
	}
	return m
}

// cpuPeriod is the scheduler's period to which --cpus refers, in microseconds.
const cpuPeriod = 100_000

func cpu(h *container.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: h.CpusetCpus, Mems: h.CpusetMems}
	if h.CPUShares > 0 {
		shares := uint64(h.CPUShares)
		c.Shares = &shares
	}
	if h.NanoCPUs > 0 {
		period := uint64(cpuPeriod)
		quota := h.NanoCPUs * cpuPeriod / 1_000_000_000
		c.Period, c.Quota = &period, &quota
	}
	if h.CPUPeriod > 0 {
		period := uint64(h.CPUPeriod)
		c.Period = &period
	}
	if h.CPUQuota != 0 {
		c.Quota = &h.CPUQuota
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

func pids(h *container.Resources) *specs.LinuxPids {
	if h.PidsLimit == nil || *h.PidsLimit <= 0 {
		return nil
	}
	return &specs.LinuxPids{Limit: h.PidsLimit}
}

// deviceRules are Docker's: nothing but the usual character devices, and
// making nodes.
func deviceRules(privileged bool) []specs.LinuxDeviceCgroup {
	if privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}} {
		rules = append(rules, specs.LinuxDeviceCgroup{
			Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm",
		})
	}
	return rules
}
