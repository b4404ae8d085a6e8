// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	module = "github.com/moby/moby/v2/integration/"
	// patience bounds one test, subtests and all. Machines without KVM take a
	// few seconds a container.
	patience = 4 * time.Minute
	// keptOutput bounds what is kept of a test that failed.
	keptOutput = 4 << 10
)

// suite is the program that go test makes of a package.
type suite struct {
	pkg, program, dir string
}

// buildSuite makes the program; where it is made already that takes a second.
func (l *lab) buildSuite(ctx context.Context, pkg string) (*suite, error) {
	s := &suite{pkg: pkg, program: filepath.Join(l.cache, pkg+".test")}
	pins := filepath.Join(l.root, "test", "peer", "suites")
	out, err := output(ctx, pins, "go", "list", "-f", "{{.Dir}}", module+pkg)
	if err != nil {
		return nil, err
	}
	s.dir = strings.TrimSpace(out)
	_, err = output(ctx, pins, "go", "test", "-c", "-o", s.program, module+pkg)
	return s, err
}

// output runs a program in a directory and returns what it prints.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out), nil
}

// command runs the suite against an engine.
func (s *suite) command(ctx context.Context, e *engine, args ...string) *exec.Cmd {
	args = append(slices.Clone(e.around), append([]string{s.program}, args...)...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.host, "DOCKER_REMOTE_DAEMON=1", "TMPDIR="+e.dir)
	// A test may leave processes of its own: all of them end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// list returns the names of the suite's tests.
func (s *suite) list(ctx context.Context, e *engine) ([]string, error) {
	out, err := s.command(ctx, e, "-test.list", ".").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("list the tests of %s: %w: %s", s.pkg, err, out)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "Test") && !strings.Contains(name, " ") {
			names = append(names, name)
		}
	}
	return names, nil
}

// run runs one test. An error means that there is no result.
func (s *suite) run(ctx context.Context, e *engine, test string) (result, error) {
	r := result{Engine: e.name, Package: s.pkg, Test: test}
	bound, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	out, err := s.command(bound, e, "-test.v", "-test.run", "^"+test+"$").CombinedOutput()
	r.Seconds = time.Since(start).Seconds()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) && bound.Err() == nil {
		return r, fmt.Errorf("run %s: %w", test, err)
	}
	r.Outcome = outcomes(test, string(out), bound.Err() != nil)
	if r.Outcome[test] != passed {
		r.Output = strings.ToValidUTF8(string(out[max(0, len(out)-keptOutput):]), "")
	}
	return r, nil
}
