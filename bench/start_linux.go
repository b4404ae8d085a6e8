// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const startRuns = 11

// benchStart measures how long a container takes, beside the bare boot of the
// kernel.
func benchStart(ctx context.Context, l *lab) error {
	boot, err := bareBoot(ctx, filepath.Join(l.bin, "guest", "vmlinux"))
	if err != nil {
		return err
	}
	runOnce := func(env ...string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			cmd := l.command(ctx, "run", "--rm", "busybox", "true")
			cmd.Env = append(cmd.Env, env...)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			d, err := timed(cmd.Run)
			if err != nil {
				return 0, fmt.Errorf("%w: %s", err, out.Bytes())
			}
			return d, nil
		}
	}
	cloned, err := median(startRuns, runOnce())
	if err != nil {
		return err
	}
	stages, err := lastTimeline(l)
	if err != nil {
		return err
	}
	booted, err := bootedRun(ctx, l)
	if err != nil {
		return err
	}
	table("Start (medians)", []string{"what", "time", "of the bare boot"}, [][]string{
		{"bare boot of the kernel, QEMU's exec to the first line of PID 1", seconds(boot), "1.00"},
		{"`byre run --rm busybox true`, cloned", seconds(cloned), ratio(cloned, boot)},
		{"`byre run --rm busybox true`, cloning off", seconds(booted), ratio(booted, boot)},
	})
	if stages != "" {
		fmt.Printf("\nWhere the time of the last cloned start went:\n\n```\n%s\n```\n", stages)
	}
	return nil
}

// bootedRun measures with a daemon whose shims boot their machines.
func bootedRun(ctx context.Context, l *lab) (time.Duration, error) {
	if err := stopDaemon(filepath.Join(l.home, "daemon.pid")); err != nil {
		return 0, err
	}
	if err := os.Setenv("BYRE_NO_CLONE", "1"); err != nil {
		return 0, err
	}
	defer func() {
		_ = stopDaemon(filepath.Join(l.home, "daemon.pid"))
		_ = os.Unsetenv("BYRE_NO_CLONE")
		_, _ = l.byre(ctx, "version")
	}()
	if _, err := l.byre(ctx, "run", "--rm", "busybox", "true"); err != nil {
		return 0, err
	}
	return median(startRuns, func() (time.Duration, error) {
		return timed(func() error {
			_, err := l.byre(ctx, "run", "--rm", "busybox", "true")
			return err
		})
	})
}

var medianLine = regexp.MustCompile(`([0-9]+) ms`)

// bareBoot runs kernel/bench-boot.
func bareBoot(ctx context.Context, kernel string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "kernel/bench-boot", "-n", fmt.Sprint(startRuns), kernel)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("kernel/bench-boot: %w", err)
	}
	m := medianLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("kernel/bench-boot printed no time: %q", out)
	}
	return time.ParseDuration(string(m[1]) + "ms")
}

// lastTimeline is what the daemon logged of the last start's stages.
func lastTimeline(l *lab) (string, error) {
	b, err := os.ReadFile(filepath.Join(l.home, "serve.log"))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "stages") {
			return lines[i], nil
		}
	}
	return "", nil
}
