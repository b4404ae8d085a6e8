// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// logContext is what a logging binary is told.
type logContext struct {
	ID, Namespace string
}

// openLogSink opens the place that a log URI names. Its closers are to be closed
// after the last byte.
func openLogSink(scheme string, u *url.URL, terminal bool, ctx logContext) (outs [2]io.WriteCloser, closers []io.Closer, err error) {
	if scheme == "file" {
		return openLogFile(u, terminal)
	}
	return openLogBinary(u, terminal, ctx)
}

// sharedFile is one file for two streams, closed after the second.
type sharedFile struct {
	*os.File
	mu sync.Mutex
	// users is guarded by mu.
	users int
}

// Close gives up one use.
func (f *sharedFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users--
	if f.users == 0 {
		return f.File.Close()
	}
	return nil
}

func openLogFile(u *url.URL, terminal bool) (outs [2]io.WriteCloser, closers []io.Closer, err error) {
	path := logPath(u)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return outs, nil, fmt.Errorf("make directory of log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return outs, nil, fmt.Errorf("open log: %w", err)
	}
	shared := &sharedFile{File: f, users: 1}
	outs[0] = shared
	if !terminal {
		shared.users, outs[1] = 2, shared
	}
	return outs, nil, nil
}

// logPath is the file that a URI names: file:///path, and file:///C:/path where
// paths look so.
func logPath(u *url.URL) string {
	p := filepath.FromSlash(u.Path)
	if len(p) > 2 && p[2] == ':' && filepath.Separator == '\\' {
		p = p[1:]
	}
	return p
}

const (
	// binaryReady bounds the time a logging binary may take to say it is ready.
	binaryReady = 10 * time.Second
	// binaryEnd is what it gets to end by itself after the last byte.
	binaryEnd = 12 * time.Second
)

// openLogBinary starts a logging binary as containerd documents it: standard
// output and error of the process are its descriptors 3 and 4, and closing
// descriptor 5 says that it is ready.
func openLogBinary(u *url.URL, terminal bool, ctx logContext) (outs [2]io.WriteCloser, closers []io.Closer, err error) {
	if !binaryLogs {
		return outs, nil, fmt.Errorf("log URI %s: logging binaries take inherited descriptors, which this host does not have: %w", u, errdefs.ErrNotImplemented)
	}
	var pipes [6]*os.File
	defer func() {
		if err != nil {
			for _, p := range pipes {
				if p != nil {
					_ = p.Close()
				}
			}
		}
	}()
	for i := 0; i < len(pipes); i += 2 {
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil {
			return outs, nil, fmt.Errorf("make pipe for logging binary: %w", err)
		}
	}
	cmd := exec.Command(logPath(u), logArgs(u)...) //nolint:noctx // it lives as long as the process that it logs
	cmd.Env = append(os.Environ(), "CONTAINER_ID="+ctx.ID, "CONTAINER_NAMESPACE="+ctx.Namespace)
	cmd.ExtraFiles = []*os.File{pipes[0], pipes[2], pipes[5]}
	if err := cmd.Start(); err != nil {
		return outs, nil, fmt.Errorf("start logging binary: %w", err)
	}
	b := &logBinary{cmd: cmd, done: make(chan struct{})}
	go b.wait() // Close waits for it
	for _, i := range []int{0, 2, 5} {
		_ = pipes[i].Close()
	}
	if err := awaitReady(pipes[4], b.done); err != nil {
		return outs, nil, errors.Join(err, cmd.Process.Kill())
	}
	_ = pipes[4].Close()
	outs[0] = pipes[1]
	if terminal {
		_ = pipes[3].Close()
	} else {
		outs[1] = pipes[3]
	}
	return outs, []io.Closer{b}, nil
}

// logArgs are the arguments in a URI's query: every key, and its value if
// has one. A query has no order of its own; keys come sorted.
func logArgs(u *url.URL) []string {
	var args []string
	for _, pair := range splitQuery(u.RawQuery) {
		args = append(args, pair...)
	}
	return args
}

func awaitReady(r *os.File, dead <-chan struct{}) error {
	if err := r.SetReadDeadline(time.Now().Add(binaryReady)); err != nil {
		return fmt.Errorf("await logging binary: %w", err)
	}
	var b [1]byte
	_, err := r.Read(b[:])
	select {
	case <-dead:
		return errors.New("logging binary ended before it was ready")
	default:
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("await logging binary: %w", err)
	}
	return nil
}

// logBinary is a logging binary at work.
type logBinary struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func (b *logBinary) wait() {
	defer close(b.done)
	b.err = b.cmd.Wait()
}

// Close waits for the binary, which ends by itself when its pipes are closed,
// and kills it if it does not.
func (b *logBinary) Close() error {
	select {
	case <-b.done:
	case <-time.After(binaryEnd):
		_ = b.cmd.Process.Kill()
		<-b.done
	}
	if b.err != nil {
		return fmt.Errorf("logging binary %s: %w", b.cmd.Path, b.err)
	}
	return nil
}

// splitQuery splits a query into its pairs, in the order they are written, as
// key or key and value.
func splitQuery(raw string) [][]string {
	var out [][]string
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		k, kerr := url.QueryUnescape(key)
		v, verr := url.QueryUnescape(value)
		if k == "" || kerr != nil || verr != nil {
			continue
		}
		if v == "" {
			out = append(out, []string{k})
			continue
		}
		out = append(out, []string{k, v})
	}
	return out
}
