// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// process is one process of the host that has to do with a state directory.
type process struct {
	pid int
	cmd string
}

// processesOf returns the processes whose arguments or environment name dir.
func processesOf(dir string) []process {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(filepath.Base(e))
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join(e, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(e, "environ"))
		if bytes.Contains(cmd, []byte(dir)) || bytes.Contains(env, []byte("BYRE_HOME="+dir)) {
			found = append(found, process{pid, string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '}))})
		}
	}
	return found
}

func daemonPID(home string) (int, error) {
	b, err := os.ReadFile(filepath.Join(home, "daemon.pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// stopDaemon removes every container and ends the daemon in order; no daemon
// at all is fine.
func stopDaemon(home string) error {
	pid, err := daemonPID(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if syscall.Kill(pid, 0) == nil {
		if err := removeContainers(home); err != nil {
			return err
		}
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	// Switches outlive the daemon by design; the tests' go with it.
	for _, p := range processesOf(home) {
		if strings.Contains(p.cmd, "network-switch") {
			_ = syscall.Kill(p.pid, syscall.SIGTERM)
		}
	}
	return gone(pid)
}

func gone(pid int) error {
	for range 300 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("process %d is still there after 30 s", pid)
}

func removeContainers(home string) error {
	out, err := output(home, "ps", "-aq")
	if err != nil {
		return err
	}
	ids := strings.Fields(out)
	if len(ids) == 0 {
		return nil
	}
	return byre(home, append([]string{"rm", "-f", "-v"}, ids...)...)
}

// killDaemon ends the script's daemon with SIGKILL.
func killDaemon(ts *testscript.TestScript, neg bool, _ []string) {
	pid, err := daemonPID(ts.Getenv("BYRE_HOME"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	ts.Check(gone(pid))
}

// killVM ends the machine of the container named with SIGKILL.
func killVM(ts *testscript.TestScript, neg bool, args []string) {
	signalOf(ts, args, "qemu-system", syscall.SIGKILL)
}

// killShim ends a container's shim with SIGKILL.
func killShim(ts *testscript.TestScript, neg bool, args []string) {
	signalOf(ts, args, "containerd-shim", syscall.SIGKILL)
}

// pauseShim has a container's shim do nothing until resumeShim.
func pauseShim(ts *testscript.TestScript, neg bool, args []string) {
	signalOf(ts, args, "containerd-shim", syscall.SIGSTOP)
}

func resumeShim(ts *testscript.TestScript, neg bool, args []string) {
	signalOf(ts, args, "containerd-shim", syscall.SIGCONT)
}

// signalOf sends a signal to the process of a container that runs a program.
func signalOf(ts *testscript.TestScript, args []string, program string, sig syscall.Signal) {
	id, err := output(ts.Getenv("BYRE_HOME"), "inspect", "-f", "{{.Id}}", args[0])
	ts.Check(err)
	id = strings.TrimSpace(id)
	for _, p := range processesOf(id) {
		if strings.Contains(p.cmd, program) {
			ts.Check(syscall.Kill(p.pid, sig))
			return
		}
	}
	ts.Fatalf("no %s of container %s found", program, id)
}

// powerCut ends with SIGKILL everything that runs for the script's state
// directory: daemon, shims, machines and switches.
func powerCut(ts *testscript.TestScript, neg bool, _ []string) {
	home := ts.Getenv("BYRE_HOME")
	pid, err := daemonPID(home)
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	for range 100 {
		all := processesOf(home)
		if len(all) == 0 {
			return
		}
		for _, p := range all {
			if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				ts.Fatalf("kill %s: %v", p.cmd, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("processes of %s are still there", home)
}

// leftovers describes processes, sockets and loop devices that have to do with
// a directory; switches may take a moment to see that they are idle.
func leftovers(dir string) string {
	var left []string
	for range 100 {
		left = nil
		for _, p := range processesOf(dir) {
			left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.cmd))
		}
		backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, b := range backing {
			if text, _ := os.ReadFile(b); bytes.Contains(text, []byte(dir)) {
				left = append(left, "loop device: "+b)
			}
		}
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		if bytes.Contains(mounts, []byte(dir)) {
			left = append(left, "a mount below "+dir)
		}
		if len(left) == 0 {
			return ""
		}
		time.Sleep(100 * time.Millisecond)
	}
	return strings.Join(left, "\n")
}

// noLeft checks that nothing but the daemon is left of the script's state
// directory's containers.
func noLeft(ts *testscript.TestScript, neg bool, _ []string) {
	home := ts.Getenv("BYRE_HOME")
	for range 100 {
		left := ""
		for _, p := range processesOf(home) {
			if strings.Contains(p.cmd, "qemu-system") || strings.Contains(p.cmd, "containerd-shim") {
				left += fmt.Sprintf("process %d: %s\n", p.pid, p.cmd)
			}
		}
		if left == "" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("machines or shims are left")
}
