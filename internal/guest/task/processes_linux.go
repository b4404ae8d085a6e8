// SPDX-License-Identifier: Apache-2.0

package task

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// Processes calls yield with what the kernel says of each process of a
// container. One that ends meanwhile is left out.
func (s *Service) Processes(id string, yield func(*guestapi.ProcessesResponse) error) error {
	c, _, err := s.get(id, "")
	if err != nil {
		return err
	}
	pids, err := c.cgroup.pids()
	if err != nil {
		return fmt.Errorf("list processes of container %s: %w", id, err)
	}
	for _, pid := range pids {
		p, err := describeProcess("/proc", pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("describe process %d of container %s: %w", pid, id, err)
		}
		if err := yield(p); err != nil {
			return err
		}
	}
	return nil
}

// describeProcess reads what procfs has of a process.
func describeProcess(procfs string, pid int) (*guestapi.ProcessesResponse, error) {
	p := &guestapi.ProcessesResponse{Pid: uint32(pid)}
	for name, dst := range map[string]*[]byte{"stat": &p.Stat, "status": &p.Status, "cmdline": &p.Cmdline} {
		b, err := os.ReadFile(filepath.Join(procfs, strconv.Itoa(pid), name))
		if err != nil {
			return nil, err
		}
		*dst = b
	}
	var boot unix.Timespec
	var info unix.Sysinfo_t
	if err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot), unix.Sysinfo(&info)); err != nil {
		return nil, fmt.Errorf("read the machine's clock and memory: %w", err)
	}
	p.UptimeMs = uint64(boot.Nano() / 1e6)
	p.MemoryBytes = uint64(info.Totalram) * uint64(info.Unit)
	return p, nil
}
