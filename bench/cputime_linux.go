// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// times are a process's processor times: its own, and those of the children
// that it has waited for, with theirs.
type times struct {
	state         byte
	parent        int
	own, children time.Duration
}

// tick is the kernel's unit of times in /proc.
const tick = 10 * time.Millisecond

// processTime reads a process's times, be it a zombie.
func processTime(pid int) (t times, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return t, err
	}
	// The name is in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 15 {
		return t, fmt.Errorf("read the times of process %d: %q", pid, b)
	}
	t.state = f[0][0]
	if t.parent, err = strconv.Atoi(f[1]); err != nil {
		return t, err
	}
	for i, d := range []*time.Duration{&t.own, &t.own, &t.children, &t.children} {
		n, err := strconv.ParseInt(f[11+i], 10, 64)
		if err != nil {
			return t, err
		}
		*d += time.Duration(n) * tick
	}
	return t, nil
}

// runCosts returns the processor time that a container costs on the host outside
// of QEMU and in it. Shims are nobody's children once they serve: they become
// this process's, which reads what they took before it buries them.
func runCosts(ctx context.Context, l *lab) (own, machine time.Duration, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
	// The daemon as well is to be a descendant.
	if err := stopDaemon(filepath.Join(l.home, "daemon.pid")); err != nil {
		return 0, 0, err
	}
	for i := range apiRuns + 1 {
		o, m, err := runCost(ctx, l)
		if err != nil {
			return 0, 0, err
		}
		if i > 0 { // the first starts daemon and network
			own, machine = own+o, machine+m
		}
	}
	return own / apiRuns, machine / apiRuns, nil
}

func runCost(ctx context.Context, l *lab) (own, machine time.Duration, err error) {
	if _, err := l.byre(ctx, "version"); err != nil {
		return 0, 0, err
	}
	daemon, err := daemonPID(l)
	if err != nil {
		return 0, 0, err
	}
	before, err := processTime(daemon)
	if err != nil {
		return 0, 0, err
	}
	client := l.command(ctx, "run", "--rm", "busybox", "true")
	if out, err := client.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("byre run: %w: %s", err, out)
	}
	shim, err := bury(ctx, "containerd-shim")
	if err != nil {
		return 0, 0, err
	}
	after, err := processTime(daemon)
	if err != nil {
		return 0, 0, err
	}
	// The daemon's children are those that start and delete shims.
	own = after.own - before.own + after.children - before.children +
		client.ProcessState.UserTime() + client.ProcessState.SystemTime() + shim.own
	return own, shim.children, nil
}

// bury waits for children of this process to end whose name begins with name,
// and returns what they took.
func bury(ctx context.Context, name string) (total times, err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		found := 0
		files, _ := filepath.Glob("/proc/[0-9]*/comm")
		for _, file := range files {
			comm, err := os.ReadFile(file)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil || !strings.HasPrefix(string(comm), name) {
				continue
			}
			t, err := processTime(pid)
			if err != nil || t.parent != os.Getpid() || t.state != 'Z' {
				continue
			}
			found++
			total.own, total.children = total.own+t.own, total.children+t.children
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
				return total, err
			}
		}
		if found > 0 {
			return total, nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return total, err
		}
	}
	return total, errors.New("no shim has ended as a child of this process")
}
