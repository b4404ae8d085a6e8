// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/lockfile"
)

// The files of a network's directory, beside the endpoints' sockets.
const (
	controlSocket = "control.sock"
	configFile    = "config.json"
	logFile       = "switch.log"
	// startLock is held by who starts the process, runLock by the process.
	startLock = "start.lock"
	runLock   = "run.lock"
)

const (
	// startTimeout bounds the wait for a process to answer.
	startTimeout = 15 * time.Second
	// stopTimeout bounds the wait for a process before to be gone.
	stopTimeout = 5 * time.Second
	// memoryLimit is where the process collects garbage harder. It is no bound:
	// buffers in use may take more.
	memoryLimit = 256 << 20
)

// Serve runs a network in this process: the sockets in cfg.Dir, the control
// socket among them. It returns nil when ctx ends, when a client asked for the
// end, after cfg.IdleExit or cfg.OrphanExit, and when the directory was removed,
// by which nobody finds it any more, as soon as no NIC is attached; and an error
// when another process serves the directory already.
func Serve(ctx context.Context, cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	if cfg.Dir == "" {
		return fmt.Errorf("network %s: a process needs a directory: %w", cfg.Name, errdefs.ErrInvalidArgument)
	}
	if err := privateDir(filepath.Join(cfg.Dir, endpointDir)); err != nil {
		return fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	waiting, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	lock, err := lockfile.Wait(waiting, filepath.Join(cfg.Dir, runLock))
	if err != nil {
		return fmt.Errorf("network %s: another process serves %s: %w", cfg.Name, cfg.Dir, err)
	}
	defer lock.Close()
	return serve(ctx, cfg, lock)
}

// serve runs a network whose lock is held.
func serve(ctx context.Context, cfg Config, lock *lockfile.Lock) error {
	if err := clearSockets(filepath.Join(cfg.Dir, endpointDir)); err != nil {
		return fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	s, err := NewSwitch(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c, err := serveControl(s, filepath.Join(cfg.Dir, controlSocket), stop)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.log.Info("network started", "subnet", cfg.Subnet, "pid", os.Getpid())
	s.waitIdle(ctx, lock)
	err = c.close(ctx)
	if lock.Found() {
		err = errors.Join(err, os.Remove(filepath.Join(cfg.Dir, controlSocket)))
	}
	err = errors.Join(err, s.Close())
	s.log.Info("network stopped")
	return err
}

// lookEvery is how often a network looks whether it is still needed.
const lookEvery = time.Second

// waitIdle returns when ctx ends, or the network is no longer needed.
func (s *Switch) waitIdle(ctx context.Context, lock *lockfile.Lock) {
	for {
		idle, attached := s.idle()
		if !attached && !lock.Found() {
			s.log.Info("network is abandoned: its directory was removed")
			return
		}
		left := lookEvery
		if limit := s.patience(); limit > 0 {
			left = min(left, limit-idle)
		}
		if left <= 0 || !sleep(ctx, left) {
			return
		}
	}
}

// patience is how long the switch may be idle, 0 for ever.
func (s *Switch) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.holders) == 0 && s.cfg.OrphanExit > 0 {
		return s.cfg.OrphanExit
	}
	return s.cfg.IdleExit
}

// clearSockets removes what a process that was killed left behind.
func clearSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Main is the whole of a network's process: it reads the configuration that
// Ensure wrote into dir and serves it. Its caller's ctx ends at SIGTERM.
func Main(ctx context.Context, dir string, log *slog.Logger) error {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	f, err := os.Open(filepath.Join(dir, configFile))
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	var cfg Config
	err = errors.Join(decode(f, &cfg, true), f.Close())
	if err != nil {
		return fmt.Errorf("network: %s: %w", f.Name(), err)
	}
	cfg.Dir, cfg.Log = dir, log
	return Serve(ctx, cfg)
}

// Ensure returns a client of the network cfg describes, and starts its process
// first if none runs: exe with args and, after them, cfg.Dir, which must call
// Main. The process is detached: it outlives the caller. Callers in several
// processes start one between them. A network that runs with another
// configuration is refused with errdefs' ErrFailedPrecondition.
func Ensure(ctx context.Context, exe string, args []string, cfg Config) (*Client, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		return nil, fmt.Errorf("network %s: a process needs a directory: %w", cfg.Name, errdefs.ErrInvalidArgument)
	}
	if err := privateDir(filepath.Join(cfg.Dir, endpointDir)); err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	lock, err := lockfile.Wait(ctx, filepath.Join(cfg.Dir, startLock))
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	defer lock.Close()
	c, err := Dial(ctx, cfg.Dir)
	if errdefs.IsUnavailable(err) {
		c, err = start(ctx, exe, args, cfg)
	}
	if err != nil {
		return nil, err
	}
	if err := c.check(ctx, cfg); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// check compares the network that runs with the one that is wanted.
func (c *Client) check(ctx context.Context, want Config) error {
	info, err := c.Inspect(ctx)
	if err != nil {
		return err
	}
	got := info.Config
	got.Dir, got.Log, got.IdleExit, got.OrphanExit = want.Dir, want.Log, want.IdleExit, want.OrphanExit
	if got != want {
		return fmt.Errorf("network %s runs already with %s; %s is wanted: remove its containers first: %w",
			want.Name, got.summary(), want.summary(), errdefs.ErrFailedPrecondition)
	}
	return nil
}

// summary is what tells configurations of a network apart.
func (c Config) summary() string {
	return fmt.Sprintf("subnet %s, addresses from %s, gateway %s, MTU %d, internal %t, host denied %t",
		c.Subnet, c.pool(), c.Gateway, c.MTU, c.Internal, c.NoHost)
}

// start starts the process and waits until it answers.
func start(ctx context.Context, exe string, args []string, cfg Config) (*Client, error) {
	if err := writeConfig(cfg); err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	logPath := filepath.Join(cfg.Dir, logFile)
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(exe, append(args[:len(args):len(args)], cfg.Dir)...)
	cmd.Dir = cfg.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("network %s: start its process: %w", cfg.Name, err)
	}
	exited := make(chan error, 1)
	// Nobody waits for it: the process outlives us by design. It is there so
	// that, if we live longer, no zombie stays.
	go func() { exited <- cmd.Wait() }()
	for {
		c, err := Dial(ctx, cfg.Dir)
		if !errdefs.IsUnavailable(err) {
			return c, err
		}
		select {
		case err := <-exited:
			return nil, fmt.Errorf("network %s: its process ended at once (%w): %s", cfg.Name, exitError(err), tail(logPath))
		case <-ctx.Done():
			return nil, fmt.Errorf("network %s: its process %d does not answer: %w: %s",
				cfg.Name, cmd.Process.Pid, ctx.Err(), tail(logPath))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Remove ends the process of a network, if one runs, waits until it is gone, and
// removes the network's directory. One that is not there is no error.
func Remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	c := newClient(dir)
	err := c.Stop(ctx)
	c.Close()
	if err != nil && !errdefs.IsUnavailable(err) {
		return fmt.Errorf("stop network process in %s: %w", dir, err)
	}
	waiting, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	lock, err := lockfile.Wait(waiting, filepath.Join(dir, runLock))
	if err != nil {
		return fmt.Errorf("wait for the end of the network process in %s: %w", dir, err)
	}
	if err := lock.Close(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// exitError is the reason of an end that should not have been.
func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// writeConfig writes the configuration for Main, whole or not at all.
func writeConfig(cfg Config) error {
	data, err := json.MarshalIndent(cfg, "", "\t")
	if err != nil {
		return err
	}
	path := filepath.Join(cfg.Dir, configFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// tail returns the end of a log for an error's text.
func tail(path string) string {
	const size = 2 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		if _, err := f.Seek(-size, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return err.Error()
	}
	if len(data) == 0 {
		return "it wrote nothing to " + path
	}
	return string(data)
}
