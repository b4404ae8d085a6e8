// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guesttest_test

import (
	"testing"
	"time"

	"byre.dev/byre/internal/guest/guesttest"
)

func start(t *testing.T) *guesttest.Machine {
	t.Helper()
	return guesttest.Start(t, guesttest.Config{Disks: []guesttest.Disk{
		{Path: guesttest.BusyboxDisk(t), ReadOnly: true},
		{Path: guesttest.ScratchDisk(t)},
	}})
}

func TestContainers(t *testing.T) {
	m := start(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *guesttest.Machine)
	}{
		{"output and exit code come back", outputAndExitCode},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, m) })
	}
}

func outputAndExitCode(t *testing.T, m *guesttest.Machine) {
	begin := time.Now()
	p := m.Run("plain", guesttest.Spec("sh", "-c", "echo out; echo err >&2; exit 7"))
	if code := p.Wait(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	t.Logf("mount to exit: %v", time.Since(begin))
	stdout, stderr := p.Delete()
	if stdout != "out\n" || stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
}
