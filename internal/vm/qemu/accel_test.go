// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"byre.dev/byre/internal/vm"
	"byre.dev/byre/internal/vm/qemu"
)

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) warnings() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), "level=WARN")
}

// probing is a driver that knows nothing of the host yet, and its log.
func probing(t *testing.T, change func(*qemu.Config)) (*qemu.Driver, *journal) {
	t.Helper()
	log := new(journal)
	return driver(t, func(c *qemu.Config) {
		c.StateDir = t.TempDir()
		c.Log = slog.New(slog.NewTextHandler(log, nil))
		if change != nil {
			change(c)
		}
	}), log
}

// replacedQEMU is a program that starts QEMU with some arguments replaced.
func replacedQEMU(t *testing.T, sed string) string {
	t.Helper()
	real, err := exec.LookPath(qemu.Program())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "qemu")
	script := fmt.Sprintf("#!/bin/bash\nargs=()\nfor a; do args+=(\"$(sed -e '%s' <<<\"$a\")\"); done\nexec %s \"${args[@]}\"\n", sed, real)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// The device that is there says nothing about what it does: this host's own is
// tried, whatever it is.
func TestTheHostsAccelerationIsTriedByABootAndTheMachineStarts(t *testing.T) {
	d, log := probing(t, func(c *qemu.Config) { c.NoClone = true })
	begin := time.Now()
	accel, why, err := d.Acceleration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s (%s) after %v", accel, why, time.Since(begin))
	f, deviceErr := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if deviceErr == nil {
		f.Close()
	}
	switch {
	case accel == "tcg" && (why == "" || log.warnings() != 1):
		t.Errorf("emulation for the reason %q with %d warnings", why, log.warnings())
	case accel == "kvm" && (deviceErr != nil || why != "" || log.warnings() != 0):
		t.Errorf("kvm (%v) with the reason %q and %d warnings", deviceErr, why, log.warnings())
	}
	m := startMachine(t, d, vm.Config{Name: "probed"})
	if got := m.Info().Accel; got != accel {
		t.Errorf("the machine runs with %s, want %s", got, accel)
	}
}

func TestAnAccelerationThatFailsIsLeftForEmulationWithOneWarning(t *testing.T) {
	// QEMU knows no such accelerator and says so, as for a device that cannot
	// be used.
	d, log := probing(t, func(c *qemu.Config) { c.NoClone = true })
	d.Suppose("broken", time.Minute)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			accel, why, err := d.Acceleration(t.Context())
			if err != nil || accel != "tcg" || !strings.Contains(why, "broken") || !strings.Contains(why, "QEMU said") {
				t.Errorf("acceleration %q, why %q, %v", accel, why, err)
			}
		})
	}
	wg.Wait()
	m := startMachine(t, d, vm.Config{Name: "emulated"})
	if got := m.Info().Accel; got != "tcg" {
		t.Errorf("the machine runs with %s", got)
	}
	if n := log.warnings(); n != 1 {
		t.Errorf("%d warnings, want one: %s", n, log.b.String())
	}
}

func TestAnAccelerationThatHangsIsGivenUpInTime(t *testing.T) {
	// A machine that never executes an instruction: QEMU answers its monitor,
	// the guest is silent.
	const limit = 3 * time.Second
	d, log := probing(t, func(c *qemu.Config) {
		c.Binary = replacedQEMU(t, "s/^-no-reboot$/-S/; s/^hanging$/tcg/; s/^host$/max/")
	})
	d.Suppose("hanging", limit)
	begin := time.Now()
	accel, why, err := d.Acceleration(t.Context())
	took := time.Since(begin)
	if err != nil || accel != "tcg" || !strings.Contains(why, "does not start with it within 3s") {
		t.Errorf("acceleration %q, why %q, %v", accel, why, err)
	}
	if took < limit || took > limit+20*time.Second {
		t.Errorf("given up after %v, want little over %v", took, limit)
	}
	if n := log.warnings(); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	begin = time.Now()
	if accel, _, err := d.Acceleration(t.Context()); err != nil || accel != "tcg" || time.Since(begin) > limit {
		t.Errorf("asked again: %q, %v after %v", accel, err, time.Since(begin))
	}
}
