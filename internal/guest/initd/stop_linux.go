// SPDX-License-Identifier: Apache-2.0

package initd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killWait bounds the wait for processes that were killed.
	killWait = 2 * time.Second
	// unmountWait bounds taking the mounts down: a share whose server is gone
	// may hang for ever.
	unmountWait = 5 * time.Second
	// syncWait bounds the last flush.
	syncWait = 10 * time.Second
)

// stop ends all processes, giving them grace between TERM and KILL, takes the
// mounts down and flushes the disks. Every step is bounded; a step that fails is
// reported and the next one done all the same.
func stop(grace time.Duration, unmount func(context.Context) error) error {
	var errs []error
	if grace > 0 {
		signalAll(unix.SIGTERM)
		waitProcesses(grace)
	}
	signalAll(unix.SIGKILL)
	if !waitProcesses(killWait) {
		errs = append(errs, errors.New("processes of containers do not end"))
	}
	errs = append(errs, bounded("unmount", unmountWait, unmount))
	errs = append(errs, bounded("flush disks", syncWait, func(context.Context) error {
		unix.Sync()
		return nil
	}))
	return errors.Join(errs...)
}

// signalAll signals every process but this one.
func signalAll(sig unix.Signal) {
	if sig == unix.SIGKILL { // reaches frozen processes as well
		os.WriteFile(cgroupDir+"/cgroup.kill", []byte("1"), 0)
	}
	unix.Kill(-1, sig) // no process to signal is no error here
}

// waitProcesses waits until no container has a process, and is false when some
// are left after d. The reaper collects them meanwhile.
func waitProcesses(d time.Duration) bool {
	for end := time.Now().Add(d); ; time.Sleep(2 * time.Millisecond) {
		b, err := os.ReadFile(cgroupDir + "/cgroup.events")
		if err != nil || !strings.Contains(string(b), "populated 1") {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// bounded runs f and gives up waiting for it after d; f's goroutine is left to
// the machine's end then.
func bounded(what string, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: no end after %v", what, d)
	}
}

// off turns the machine off.
func off() {
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // no ACPI: QEMU's -no-reboot ends it
}
