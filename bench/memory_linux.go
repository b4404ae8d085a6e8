// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// memoryContainers is how many containers run at once in the memory table.
const memoryContainers = 10

// benchMemory measures what running containers cost the host, and what it gets
// back when a container frees memory.
func benchMemory(ctx context.Context, l *lab) error {
	var ids []string
	defer func() { _, _ = l.byre(context.WithoutCancel(ctx), append([]string{"rm", "-f"}, ids...)...) }()
	for range memoryContainers {
		id, err := l.byre(ctx, "run", "-d", "busybox", "sleep", "1000000")
		if err != nil {
			return err
		}
		ids = append(ids, strings.TrimSpace(id))
	}
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	var total int64
	for _, id := range ids {
		n, err := containerCost(id)
		if err != nil {
			return err
		}
		total += n
	}
	inUse, err := guestInUse(ctx, l, ids[0])
	if err != nil {
		return err
	}
	before, peak, after, err := giveBack(ctx, l, ids[0])
	if err != nil {
		return err
	}
	table("Memory", []string{"what", "bytes"}, [][]string{
		{fmt.Sprintf("one of %d running busybox containers, host's share of all its processes and memory files", memoryContainers), megabytes(total / memoryContainers)},
		{"in use in the guest of a busybox container", megabytes(inUse)},
		{"a container before it writes 500 MB", megabytes(before)},
		{"with 500 MB written", megabytes(peak)},
		{"10 s after it freed them", megabytes(after)},
	})
	return nil
}

func containerCost(id string) (int64, error) {
	pids := processesOf(id)
	if len(pids) == 0 {
		return 0, fmt.Errorf("no processes of container %s", id)
	}
	var total int64
	for _, pid := range pids {
		n, err := cost(pid)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// guestInUse is the machine's memory less what is free or only cache.
func guestInUse(ctx context.Context, l *lab, id string) (int64, error) {
	out, err := l.byre(ctx, "exec", id, "sh", "-c", "awk '/^MemTotal|^MemAvailable/ {print $2}' /proc/meminfo")
	if err != nil {
		return 0, err
	}
	var total, available int64
	if _, err := fmt.Sscan(out, &total, &available); err != nil {
		return 0, fmt.Errorf("read the guest's meminfo %q: %w", out, err)
	}
	return (total - available) << 10, nil
}

func giveBack(ctx context.Context, l *lab, id string) (before, peak, after int64, err error) {
	if before, err = containerCost(id); err != nil {
		return
	}
	if _, err = l.byre(ctx, "exec", id, "sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=60 2>/dev/null; rm -f /dev/shm/f"); err != nil {
		return
	}
	// tail keeps all that it reads in memory when there is no line in it.
	done := make(chan error, 1)
	go func() { // awaited below
		_, err := l.byre(ctx, "exec", id, "sh", "-c", "head -c 500000000 /dev/zero | tail -c 500000000 | (sleep 6; wc -c)")
		done <- err
	}()
	for peak = before; ; {
		select {
		case err = <-done:
			if err == nil {
				err = sleep(ctx, 10*time.Second)
			}
			if err == nil {
				after, err = containerCost(id)
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
		now, cerr := containerCost(id)
		if cerr != nil {
			continue
		}
		peak = max(peak, now)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
