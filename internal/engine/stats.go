// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// StatsOptions say how to measure.
type StatsOptions struct {
	// Stream measures every second until the client goes.
	Stream bool
	// OneShot leaves out the measurement before, which costs a second.
	OneShot bool
}

// statsEvery is the time between measurements, as in dockerd.
const statsEvery = time.Second

// Stats measures a container and gives the results to emit. One that does not
// run measures nothing.
func (e *Engine) Stats(ctx context.Context, ref string, opts StatsOptions, emit func(*container.StatsResponse) error) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	var last *container.StatsResponse
	if !opts.Stream && !opts.OneShot && c.snapshot().State.Running {
		if last, err = e.measure(ctx, c, nil); err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return nil
		}
	}
	for {
		s, err := e.measure(ctx, c, last)
		if err != nil {
			return err
		}
		if err := emit(s); err != nil || !opts.Stream {
			return err
		}
		last = s
		if err := pause(ctx); err != nil {
			return nil
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(statsEvery):
		return nil
	}
}

// measure takes one measurement.
func (e *Engine) measure(ctx context.Context, c *Container, last *container.StatsResponse) (*container.StatsResponse, error) {
	r := c.snapshot()
	s := &container.StatsResponse{ID: r.ID, Name: "/" + r.Name, OSType: "linux"}
	if last != nil {
		s.PreRead, s.PreCPUStats = last.Read, last.CPUStats
	}
	if !r.State.Running {
		return s, nil
	}
	s.Read = time.Now().UTC()
	m, err := e.tasks.Metrics(ctx, c.id)
	if errdefs.IsNotFound(err) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("measure container %s: %w", short(c.id), err)
	}
	metrics, ok := m.(*stats.Metrics)
	if !ok {
		return nil, fmt.Errorf("measure container %s: measurements are a %T", short(c.id), m)
	}
	fill(s, metrics, e.born)
	return s, nil
}

// fill puts the measurements of a control group of version 2 in Docker's form.
// The machine's processors are all the container's: their time is the time that
// passed.
func fill(s *container.StatsResponse, m *stats.Metrics, born time.Time) {
	if cpu := m.GetCPU(); cpu != nil {
		s.CPUStats.CPUUsage = container.CPUUsage{
			TotalUsage: cpu.UsageUsec * 1000, UsageInUsermode: cpu.UserUsec * 1000, UsageInKernelmode: cpu.SystemUsec * 1000,
		}
		s.CPUStats.ThrottlingData = container.ThrottlingData{
			Periods: cpu.NrPeriods, ThrottledPeriods: cpu.NrThrottled, ThrottledTime: cpu.ThrottledUsec * 1000,
		}
		s.CPUStats.OnlineCPUs = onlineCPUs()
		s.CPUStats.SystemUsage = uint64(s.Read.Sub(born)) * uint64(onlineCPUs())
	}
	if mem := m.GetMemory(); mem != nil {
		s.MemoryStats.Usage, s.MemoryStats.Limit = mem.Usage, mem.UsageLimit
		if limit := uint64(hostMemory()); limit > 0 {
			s.MemoryStats.Limit = min(mem.UsageLimit, limit)
		}
		s.MemoryStats.Stats = map[string]uint64{
			"anon": mem.Anon, "file": mem.File, "kernel_stack": mem.KernelStack, "slab": mem.Slab, "sock": mem.Sock,
			"shmem": mem.Shmem, "file_mapped": mem.FileMapped, "file_dirty": mem.FileDirty,
			"inactive_anon": mem.InactiveAnon, "active_anon": mem.ActiveAnon,
			"inactive_file": mem.InactiveFile, "active_file": mem.ActiveFile, "unevictable": mem.Unevictable,
			"pgfault": mem.Pgfault, "pgmajfault": mem.Pgmajfault,
		}
	}
	if p := m.GetPids(); p != nil {
		s.PidsStats = container.PidsStats{Current: p.Current, Limit: p.Limit}
	}
	fillNetworks(s, m.GetNetwork())
	if io := m.GetIo(); io != nil {
		for _, u := range io.Usage {
			entry := func(op string, n uint64) container.BlkioStatEntry {
				return container.BlkioStatEntry{Major: u.Major, Minor: u.Minor, Op: op, Value: n}
			}
			s.BlkioStats.IoServiceBytesRecursive = append(s.BlkioStats.IoServiceBytesRecursive, entry("read", u.Rbytes), entry("write", u.Wbytes))
			s.BlkioStats.IoServicedRecursive = append(s.BlkioStats.IoServicedRecursive, entry("read", u.Rios), entry("write", u.Wios))
		}
	}
}

// fillNetworks takes the counters of the machine's links: whoever shares the
// machine's network shares them.
func fillNetworks(s *container.StatsResponse, links []*stats.NetworkStat) {
	for _, l := range links {
		if s.Networks == nil {
			s.Networks = map[string]container.NetworkStats{}
		}
		s.Networks[l.Name] = container.NetworkStats{
			RxBytes: l.RxBytes, RxPackets: l.RxPackets, RxErrors: l.RxErrors, RxDropped: l.RxDropped,
			TxBytes: l.TxBytes, TxPackets: l.TxPackets, TxErrors: l.TxErrors, TxDropped: l.TxDropped,
		}
	}
}
