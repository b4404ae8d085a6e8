// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
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
	var all []kind
	for _, k := range []kind{
		{name: "machine kept warm", env: map[string]string{"BYRE_SPARES": "1"}},
		{name: "machine cloned, none kept warm", env: map[string]string{"BYRE_SPARES": "0"}},
		{name: "cloning off, machine kept warm", env: map[string]string{"BYRE_SPARES": "1", "BYRE_NO_CLONE": "1"}},
		{name: "cloning off, none kept warm", env: map[string]string{"BYRE_SPARES": "0", "BYRE_NO_CLONE": "1"}},
	} {
		if err := k.measure(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		all = append(all, k)
	}
	rows := [][]string{{"bare boot of the kernel, QEMU's exec to the first line of PID 1", seconds(boot), "1.00"}}
	for _, k := range all {
		rows = append(rows, []string{"`byre run --rm busybox true`, " + k.name, seconds(k.took), ratio(k.took, boot)})
	}
	table("Start (medians)", []string{"what", "time", "of the bare boot"}, rows)
	for _, k := range all {
		fmt.Printf("\nWhere the time of the last start went, %s (begin+took in ms of the shim's stages):\n\n```\n%s\n```\n", k.name, k.stages)
	}
	return nil
}

// kind is a way to start a container, by the settings of the daemon.
type kind struct {
	name string
	env  map[string]string
	// took is the median, stages where the time of the last start went.
	took   time.Duration
	stages string
}

// measure runs containers under a daemon of the kind's settings.
func (k *kind) measure(ctx context.Context, l *lab) (err error) {
	if err := stopDaemon(filepath.Join(l.home, "daemon.pid")); err != nil {
		return err
	}
	before := map[string]string{}
	for name, value := range k.env {
		before[name] = os.Getenv(name)
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	// The shim's stages are told at the level of debugging.
	before["BYRE_DEBUG"] = os.Getenv("BYRE_DEBUG")
	if err := os.Setenv("BYRE_DEBUG", "1"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, stopDaemon(filepath.Join(l.home, "daemon.pid")))
		for name, value := range before {
			err = errors.Join(err, os.Setenv(name, value))
		}
		_, verr := l.byre(ctx, "version") // starts the daemon as it was
		err = errors.Join(err, verr)
	}()
	if _, err := l.byre(ctx, "run", "--rm", "busybox", "true"); err != nil {
		return err
	}
	k.took, err = median(startRuns, func() (time.Duration, error) {
		if k.env["BYRE_SPARES"] != "0" {
			if err := awaitSpare(ctx, l); err != nil {
				return 0, err
			}
		}
		return timed(func() error {
			_, err := l.byre(ctx, "run", "--rm", "busybox", "true")
			return err
		})
	})
	if err != nil {
		return err
	}
	k.stages, err = lastTimeline(l)
	return err
}

// spareLimit bounds the wait for a machine to be warm.
const spareLimit = 2 * time.Minute

// awaitSpare waits until a machine is warm, and a moment for the host to be
// quiet.
func awaitSpare(ctx context.Context, l *lab) error {
	for end := time.Now().Add(spareLimit); time.Now().Before(end); {
		warm, err := filepath.Glob(filepath.Join(l.home, "spares", "*.spare.json"))
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		if len(warm) > 0 {
			return nil
		}
	}
	return fmt.Errorf("no machine is warm within %v: see %s", spareLimit, filepath.Join(l.home, "spares", "log"))
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

// lastTimeline is what the shim logged of the last start's stages.
func lastTimeline(l *lab) (string, error) {
	b, err := os.ReadFile(filepath.Join(l.home, "serve.log"))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "start took") {
			_, stages, _ := strings.Cut(lines[i], "stages=")
			return strings.Trim(stages, `"`), nil
		}
	}
	return "", nil
}
