// SPDX-License-Identifier: Apache-2.0

package task

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroup is the path of a container's cgroup.
type cgroup string

func containerCgroup(id string) cgroup {
	return cgroup(filepath.Join(cgroupRoot, cgroupParent, id))
}

func (c cgroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(string(c), file), []byte(value), 0)
}

// kill ends every process of the cgroup and those below it.
func (c cgroup) kill() error { return c.write("cgroup.kill", "1") }

// freeze stops or resumes all processes and waits until they are.
func (c cgroup) freeze(ctx context.Context, frozen bool) error {
	value := "0"
	if frozen {
		value = "1"
	}
	if err := c.write("cgroup.freeze", value); err != nil {
		return fmt.Errorf("set freezer: %w", err)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		events, err := c.values("cgroup.events")
		if err != nil {
			return err
		}
		if (events["frozen"] == 1) == frozen {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("await freezer: %w", ctx.Err())
		}
	}
}

// pids returns the processes of the cgroup and of those below it.
func (c cgroup) pids() ([]int, error) {
	var all []int
	err := filepath.WalkDir(string(c), func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				all = append(all, pid)
			}
		}
		return ignoreGone(err)
	})
	return all, err
}

// ignoreGone drops the errors of a cgroup that goes away while it is read, and
// of a threaded one, which lists no processes.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// signal sends a signal to every process of the cgroup.
func (c cgroup) signal(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return ignoreGone(c.kill())
	}
	pids, err := c.pids()
	for _, pid := range pids {
		if kerr := unix.Kill(pid, sig); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("signal process %d: %w", pid, kerr))
		}
	}
	return err
}

// number reads a file with one number; "max" and a file that is not there are
// the largest and 0.
func (c cgroup) number(file string) uint64 {
	b, err := os.ReadFile(filepath.Join(string(c), file))
	if err != nil {
		return 0
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return ^uint64(0)
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// values reads a file of "key number" lines.
func (c cgroup) values(file string) (map[string]uint64, error) {
	f, err := os.Open(filepath.Join(string(c), file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]uint64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			all[key] = n
		}
	}
	return all, lines.Err()
}
