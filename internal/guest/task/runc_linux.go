// SPDX-License-Identifier: Apache-2.0

package task

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/reap"
)

// runc drives the runc program. Its exits are the reaper's, as all are.
type runc struct {
	path   string
	root   string
	logs   string
	reaper *reap.Reaper
}

// streams are the standard streams of a runc command, which those of the
// container's process become. nil means /dev/null.
type streams struct{ in, out, err *os.File }

// run runs one command to its end. What runc says of a failure is the error's
// text, word for word, because the host tells "not found" from "not executable"
// by it.
func (r *runc) run(ctx context.Context, s streams, verb string, args ...string) error {
	dir, err := os.MkdirTemp(r.logs, "runc")
	if err != nil {
		return fmt.Errorf("run runc %s: %w", verb, err)
	}
	defer os.RemoveAll(dir)
	logFile := filepath.Join(dir, "log")
	all := append([]string{"--root", r.root, "--log", logFile, "--log-format", "json", verb}, args...)
	cmd := exec.Command(r.path, all...)
	// GOGC: a command of runc ends before its heap is worth collecting.
	cmd.Env = []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin", "GOGC=off", "GOMEMLIMIT=64MiB"}
	cmd.Dir = "/"
	setFile(&cmd.Stdin, s.in)
	setFile(&cmd.Stdout, s.out)
	setFile(&cmd.Stderr, s.err)
	code, err := r.await(ctx, cmd)
	if err != nil {
		return fmt.Errorf("run runc %s: %w", verb, err)
	}
	if code == 0 {
		return nil
	}
	said := lastError(logFile)
	if said == "" {
		said = "exit status " + strconv.Itoa(code)
	}
	return &runcError{verb: verb, said: said}
}

// setFile sets a stream only to a real file: a nil *os.File in an interface
// would not mean /dev/null.
func setFile[T any](dst *T, f *os.File) {
	if f != nil {
		*dst = any(f).(T)
	}
}

func (r *runc) await(ctx context.Context, cmd *exec.Cmd) (int, error) {
	pid, exited, err := r.reaper.Start(cmd)
	if err != nil {
		return 0, err
	}
	select {
	case e := <-exited:
		return e.Code, nil
	case <-ctx.Done():
	}
	r.reaper.Signal(pid, unix.SIGKILL)
	<-exited
	return 0, ctx.Err()
}

// runcError is a failure in runc's own words.
type runcError struct{ verb, said string }

func (e *runcError) Error() string { return "runc " + e.verb + ": " + e.said }

// lastError returns the last error of a JSON log.
func lastError(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	var last string
	for line := range bytes.Lines(b) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = strings.TrimSpace(entry.Msg)
		}
	}
	return last
}

// readPid reads a pid file that runc wrote.
func readPid(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, errors.New("runc wrote no pid")
	}
	return pid, nil
}
