// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"byre.dev/byre/internal/testenv"
)

const (
	runtime = "io.containerd.byre.v1"
	image   = "docker.io/library/busybox:latest"
	// patience bounds one command on a busy machine without KVM.
	patience = 2 * time.Minute
)

// binDir is where `make` puts the programs.
func binDir(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("BYRE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "guest", "initrd")); err != nil {
		t.Fatalf("%v: run make first", err)
	}
	return bin
}

// needRoot skips: an engine of the system's runs as root.
func needRoot(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t, "run an engine of the system's")
}

// build makes programs from the module in a directory below this one. What is
// there already and up to date is left as it is.
func build(t *testing.T, module string, packages ...string) string {
	t.Helper()
	out := filepath.Join(binDir(t), "obj", "foreign")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(out, filepath.Base(p)), p)
		cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", p, err, b)
		}
	}
	return out
}

// containerd is a containerd of the test's own.
type containerd struct {
	t         *testing.T
	dir, bins string
	// home has the machines' template, which all tests share.
	home string
}

const configuration = `version = 4
root = '%[1]s/root'
state = '%[1]s/state'
temp = '%[1]s/tmp'
disabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri', 'io.containerd.nri.v1.nri', 'io.containerd.internal.v1.opt']
[plugins.'io.containerd.server.v1.grpc']
  address = '%[1]s/c.sock'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '%[1]s/c.sock.ttrpc'
%[2]s`

// startContainerd starts a containerd with the shim on its PATH and busybox in
// its store, and ends it with the test, which fails when anything is left.
func startContainerd(t *testing.T, more string) *containerd {
	t.Helper()
	needRoot(t)
	c := &containerd{t: t, bins: build(t, "containerd",
		"github.com/containerd/containerd/v2/cmd/containerd", "github.com/containerd/containerd/v2/cmd/ctr")}
	c.dir, c.home = shortDir(t), sharedHome(t)
	config := filepath.Join(c.dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, configuration, c.dir, more), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, c.dir, c.home, filepath.Join(c.bins, "containerd"), "--config", config)
	await(t, filepath.Join(c.dir, "containerd.log"), func() error {
		_, err := c.try("version")
		return err
	})
	return c
}

// shortDir is a directory whose path leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "byre-f.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := leftovers(dir); left != "" {
			t.Errorf("left behind:\n%s", left)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// serve starts an engine in a process group of its own, its log beside its
// files, and ends it with the test.
func serve(t *testing.T, dir, home, program string, args ...string) {
	t.Helper()
	name := filepath.Join(dir, filepath.Base(program)+".log")
	log, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "BYRE_HOME="+home, "TMPDIR="+dir,
		"PATH="+binDir(t)+string(os.PathListSeparator)+filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(name)
			t.Logf("%s:\n%s", name, b[max(0, len(b)-8<<10):])
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// await waits until an engine answers.
func await(t *testing.T, log string, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(log)
			t.Fatalf("not ready after %v: %v\n%s", patience, err, b)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// result is what a command gave.
type result struct {
	stdout, stderr string
	code           int
}

func (c *containerd) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(c.bins, "ctr"), append([]string{"-a", c.dir + "/c.sock"}, args...)...)
}

// try runs ctr with nothing on standard input.
func (c *containerd) try(args ...string) (result, error) { return c.tryWith("", args...) }

func (c *containerd) tryWith(stdin string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	cmd := c.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if exit := new(exec.ExitError); errors.As(err, &exit) && ctx.Err() == nil {
		return r, fmt.Errorf("ctr %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r, err
}

// ctr runs ctr and wants it to succeed.
func (c *containerd) ctr(args ...string) string {
	c.t.Helper()
	r, err := c.try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.stdout
}

// runArgs are those of `ctr run` for the shim. A name serves once.
func (c *containerd) runArgs(name string, args ...string) []string {
	return append([]string{"run", "--rm", "--fifo-dir", c.dir + "/fifo", "--runtime", runtime, image, name}, args...)
}

// run runs a container to its end.
func (c *containerd) run(stdin, name string, args ...string) result {
	c.t.Helper()
	r, err := c.tryWith(stdin, c.runArgs(name, args...)...)
	if r.code < 0 {
		c.t.Fatal(err)
	}
	return r
}

// sharedHome is where the machines' template is: in the programs' directory, so
// that it is made once.
func sharedHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(binDir(t), "obj", "foreign-home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	return home
}

// busyboxArchive makes the image.
func busyboxArchive(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "busybox.tar")
	out, err := exec.CommandContext(t.Context(), filepath.Join("..", "..", "build", "busybox-image"), path, image).CombinedOutput()
	if err != nil {
		t.Fatalf("make the busybox image: %v: %s", err, out)
	}
	return path
}

// leftovers describes processes, mounts and loop devices that have to do with a
// directory. Shims take a moment to end.
func leftovers(dir string) string {
	var left []string
	for range 100 {
		left = nil
		procs, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range procs {
			cmd, _ := os.ReadFile(p + "/cmdline")
			if bytes.Contains(cmd, []byte(dir)) {
				left = append(left, fmt.Sprintf("process %s: %s", filepath.Base(p), bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
			}
		}
		for _, pattern := range []string{"/proc/self/mountinfo", "/sys/block/loop*/loop/backing_file"} {
			files, _ := filepath.Glob(pattern)
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err == nil && bytes.Contains(b, []byte(dir)) {
					left = append(left, f+" names the directory")
				} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
					left = append(left, err.Error())
				}
			}
		}
		if len(left) == 0 {
			return ""
		}
		time.Sleep(100 * time.Millisecond)
	}
	return strings.Join(left, "\n")
}
