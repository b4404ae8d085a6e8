// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
)

const (
	// startLimit bounds how long a daemon may take until it answers: it opens
	// its stores, which is quick, and after a crash collects what was left.
	startLimit = 60 * time.Second
	// startRetry is the pause before the next attempt while another daemon
	// ends.
	startRetry = 500 * time.Millisecond
	// maxLog is the size at which the daemon's log is set aside.
	maxLog = 16 << 20
	// logTail is how much of the log an error shows.
	logTail = 2 << 10
)

// autostart connects to the daemon and starts it once when nobody answers.
type autostart struct {
	home home.Dir
	// program is byred.
	program  string
	progress io.Writer

	mu sync.Mutex
	// started and err are guarded by mu. A daemon is started once per command;
	// err says why that failed: docker's client drops the error of its first
	// connection and shows that of the next.
	started bool
	err     error
}

func (a *autostart) dial(ctx context.Context) (net.Conn, error) {
	sock := a.home.Path("docker.sock")
	conn, err := localsock.Dial(ctx, sock)
	if err == nil {
		return conn, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.started {
		a.started = true
		a.err = a.start(ctx)
	}
	if a.err != nil {
		return nil, a.err
	}
	return localsock.Dial(ctx, sock)
}

// ensure makes sure that a daemon answers.
func (a *autostart) ensure(ctx context.Context) error {
	conn, err := a.dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// start starts a daemon and waits until it answers. A daemon that is ending
// holds its state for a moment longer, and is waited for.
func (a *autostart) start(ctx context.Context) error {
	if err := a.home.Prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for said := false; ; said = true {
		err := a.launch(ctx)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != daemonapi.ExitTaken {
			return err
		}
		if !said {
			fmt.Fprintln(a.progress, "byre: waiting for the daemon that has the state directory to end or to answer …")
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(startRetry):
		}
	}
}

// launch runs the daemon in a session of its own and waits until it answers.
func (a *autostart) launch(ctx context.Context) error {
	logPath := a.home.Path("serve.log")
	logFile, offset, err := openLog(logPath)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(a.program, daemonapi.Serve)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Dir = string(a.home)
	cmd.Env = append(os.Environ(), home.Env+"="+string(a.home))
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // the daemon outlives this process
	return a.await(ctx, launched{cmd.Process.Pid, exited, logPath, offset})
}

// launched is a daemon that this command has started.
type launched struct {
	pid    int
	exited <-chan error
	// logPath is the daemon's log, offset where its own lines begin.
	logPath string
	offset  int64
}

// await returns when a daemon answers. When that is another command's, ours is
// waited for until it has found the state directory taken: left alone it could
// come to life when the other ends.
func (a *autostart) await(ctx context.Context, d launched) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	slow := time.After(2 * time.Second)
	for {
		select {
		case err := <-d.exited:
			if a.answers(ctx) {
				return nil // another command's daemon won the race
			}
			return fmt.Errorf("the daemon ended while starting (%w); its log %s ends:\n%s", orExit(err), d.logPath, tail(d.logPath, d.offset))
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer after %v (%w); its log %s ends:\n%s", startLimit, ctx.Err(), d.logPath, tail(d.logPath, d.offset))
		case <-slow:
			fmt.Fprintln(a.progress, "byre: waiting for the daemon to open its stores …")
		case <-tick.C:
			if a.answers(ctx) && a.home.Holder() == strconv.Itoa(d.pid) {
				return nil
			}
		}
	}
}

func (a *autostart) answers(ctx context.Context) bool {
	conn, err := localsock.Dial(ctx, a.home.Path("docker.sock"))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// openLog opens the daemon's log for appending and returns its length; a log
// over maxLog is renamed to serve.log.1 first.
func openLog(path string) (*os.File, int64, error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, fmt.Errorf("set aside the daemon's log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open the daemon's log: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open the daemon's log: %w", err), f.Close())
	}
	return f, fi.Size(), nil
}

// tail returns the last lines written to the log since offset.
func tail(path string, offset int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return []byte(err.Error())
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, offset, maxLog))
	if err != nil {
		return []byte(err.Error())
	}
	if len(b) > logTail {
		b = b[len(b)-logTail:]
		if _, rest, found := bytes.Cut(b, []byte("\n")); found {
			b = rest
		}
	}
	return bytes.TrimSpace(b)
}
