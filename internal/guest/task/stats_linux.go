// SPDX-License-Identifier: Apache-2.0

package task

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// metricsURL is the type under which containerd's clients know the metrics.
const metricsURL = "io.containerd.cgroups.v2.Metrics"

// metrics reads a container's statistics. The files are read here and not with
// containerd's cgroup2 package, which would link eBPF and D-Bus.
func (c cgroup) metrics() (*anypb.Any, error) {
	if _, err := os.Stat(string(c)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the container's cgroup is gone: %w", errdefs.ErrNotFound)
	}
	m := &stats.Metrics{
		Pids:         &stats.PidsStat{Current: c.number("pids.current"), Limit: c.number("pids.max")},
		CPU:          c.cpu(),
		Memory:       c.memory(),
		MemoryEvents: c.memoryEvents(),
		Io:           &stats.IOStat{Usage: c.io()},
		Network:      networkStats("/sys/class/net"),
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metrics: %w", err)
	}
	return &anypb.Any{TypeUrl: metricsURL, Value: b}, nil
}

// lookup returns the values of a file; a controller that is off has none.
func (c cgroup) lookup(file string) map[string]uint64 {
	v, err := c.values(file)
	if err != nil {
		return nil
	}
	return v
}

func (c cgroup) cpu() *stats.CPUStat {
	v := c.lookup("cpu.stat")
	return &stats.CPUStat{
		UsageUsec: v["usage_usec"], UserUsec: v["user_usec"], SystemUsec: v["system_usec"],
		NrPeriods: v["nr_periods"], NrThrottled: v["nr_throttled"], ThrottledUsec: v["throttled_usec"],
		NrBursts: v["nr_bursts"], BurstUsec: v["burst_usec"],
	}
}

func (c cgroup) memory() *stats.MemoryStat {
	v := c.lookup("memory.stat")
	return &stats.MemoryStat{
		Anon: v["anon"], File: v["file"], KernelStack: v["kernel_stack"], Slab: v["slab"],
		Sock: v["sock"], Shmem: v["shmem"], FileMapped: v["file_mapped"], FileDirty: v["file_dirty"],
		FileWriteback: v["file_writeback"], AnonThp: v["anon_thp"],
		InactiveAnon: v["inactive_anon"], ActiveAnon: v["active_anon"],
		InactiveFile: v["inactive_file"], ActiveFile: v["active_file"], Unevictable: v["unevictable"],
		SlabReclaimable: v["slab_reclaimable"], SlabUnreclaimable: v["slab_unreclaimable"],
		Pgfault: v["pgfault"], Pgmajfault: v["pgmajfault"],
		WorkingsetRefault:     v["workingset_refault_anon"] + v["workingset_refault_file"],
		WorkingsetActivate:    v["workingset_activate_anon"] + v["workingset_activate_file"],
		WorkingsetNodereclaim: v["workingset_nodereclaim"],
		Pgrefill:              v["pgrefill"], Pgscan: v["pgscan"], Pgsteal: v["pgsteal"],
		Pgactivate: v["pgactivate"], Pgdeactivate: v["pgdeactivate"],
		Pglazyfree: v["pglazyfree"], Pglazyfreed: v["pglazyfreed"],
		ThpFaultAlloc: v["thp_fault_alloc"], ThpCollapseAlloc: v["thp_collapse_alloc"],
		Usage: c.number("memory.current"), UsageLimit: c.number("memory.max"), MaxUsage: c.number("memory.peak"),
		SwapUsage: c.number("memory.swap.current"), SwapLimit: c.number("memory.swap.max"),
		SwapMaxUsage: c.number("memory.swap.peak"),
	}
}

func (c cgroup) memoryEvents() *stats.MemoryEvents {
	v := c.lookup("memory.events")
	return &stats.MemoryEvents{
		Low: v["low"], High: v["high"], Max: v["max"],
		Oom: v["oom"], OomKill: v["oom_kill"], OomGroupKill: v["oom_group_kill"],
	}
}

// io reads io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
func (c cgroup) io() []*stats.IOEntry {
	f, err := os.Open(filepath.Join(string(c), "io.stat"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []*stats.IOEntry
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		dev, rest, _ := strings.Cut(lines.Text(), " ")
		e := &stats.IOEntry{}
		if _, err := fmt.Sscanf(dev, "%d:%d", &e.Major, &e.Minor); err != nil {
			continue
		}
		for f := range strings.FieldsSeq(rest) {
			key, value, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseUint(value, 10, 64)
			switch key {
			case "rbytes":
				e.Rbytes = n
			case "wbytes":
				e.Wbytes = n
			case "rios":
				e.Rios = n
			case "wios":
				e.Wios = n
			}
		}
		all = append(all, e)
	}
	return all
}

// networkStats reads the counters of the machine's links that are up, which are
// the container's: it uses the machine's network namespace. Cards that no network
// uses are down.
func networkStats(dir string) []*stats.NetworkStat {
	links, _ := filepath.Glob(filepath.Join(dir, "eth*"))
	var all []*stats.NetworkStat
	for _, l := range links {
		if !isUp(l) {
			continue
		}
		n := cgroup(filepath.Join(l, "statistics")) // files with one number each, as in a cgroup
		all = append(all, &stats.NetworkStat{
			Name:    filepath.Base(l),
			RxBytes: n.number("rx_bytes"), RxPackets: n.number("rx_packets"),
			RxErrors: n.number("rx_errors"), RxDropped: n.number("rx_dropped"),
			TxBytes: n.number("tx_bytes"), TxPackets: n.number("tx_packets"),
			TxErrors: n.number("tx_errors"), TxDropped: n.number("tx_dropped"),
		})
	}
	return all
}

// isUp reads the flags of a link, such as 0x1003.
func isUp(link string) bool {
	b, err := os.ReadFile(filepath.Join(link, "flags"))
	if err != nil {
		return false
	}
	flags, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32)
	return err == nil && flags&unix.IFF_UP != 0
}
