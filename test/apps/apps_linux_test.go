// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is where the tests run byre: its programs, and a state directory of
// their own below root.
var host struct {
	byre, root, home string
}

func TestMain(m *testing.M) { os.Exit(mainCode(m)) }

func mainCode(m *testing.M) int {
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "apps:", err)
		return 1
	}
	defer os.RemoveAll(host.root)
	code := m.Run()
	if err := tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, "apps:", err)
		return 1
	}
	return code
}

func setUp() error {
	bin := os.Getenv("BYRE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(bin, "guest", "initrd")); err != nil {
		return fmt.Errorf("%w: run make first", err)
	}
	// Short: socket paths below it must fit sun_path.
	if host.root, err = os.MkdirTemp("/tmp", "byre-apps."); err != nil {
		return err
	}
	host.byre, host.home = filepath.Join(bin, "byre"), filepath.Join(host.root, "home")
	return nil
}

// command is byre over the tests' state directory.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, host.byre, args...)
	cmd.Env = append(os.Environ(), "BYRE_SPARES=0", "BYRE_HOME="+host.home, "DOCKER_CONFIG="+host.root)
	return cmd
}

// byre runs a command, which must succeed, and returns what it printed.
func byre(ctx context.Context, args ...string) (string, error) {
	cmd := command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("byre %s: %w: %s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// processesOf returns the command lines, by pid, of the processes that a text
// is in the arguments or in BYRE_HOME of.
func processesOf(text string) map[int]string {
	found := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, e := range entries {
		pid, err := strconv.Atoi(filepath.Base(e))
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join(e, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(e, "environ"))
		if bytes.Contains(cmd, []byte(text)) || bytes.Contains(env, []byte("BYRE_HOME="+text)) {
			found[pid] = string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '}))
		}
	}
	return found
}

// killMachine ends the virtual machine of a container with SIGKILL.
func killMachine(container string) error {
	for pid, cmd := range processesOf(container) {
		if strings.Contains(cmd, "qemu-system") {
			return syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return fmt.Errorf("no machine of container %s found", container)
}

// tearDown ends the daemon and its switches; whatever is left is an error.
func tearDown() error {
	b, err := os.ReadFile(filepath.Join(host.home, "daemon.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for p, cmd := range processesOf(host.home) {
		if strings.Contains(cmd, "network-switch") {
			_ = syscall.Kill(p, syscall.SIGTERM)
		}
	}
	var left map[int]string
	for range 300 {
		if left = processesOf(host.root); len(left) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("processes are left behind: %v", left)
}
