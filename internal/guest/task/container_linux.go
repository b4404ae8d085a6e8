// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/netcfg"
	"byre.dev/byre/internal/guest/reap"
	"byre.dev/byre/internal/guestapi"
)

// container is one container and its processes.
type container struct {
	s      *Service
	id     string
	bundle string
	cgroup cgroup
	init   *process

	// op serializes start, pause, resume, update and delete.
	op sync.Mutex

	mu sync.Mutex
	// execs has the added processes by id; an entry may be nil while its exec
	// is being made. Guarded by mu.
	execs map[string]*process
}

// create makes the container with its init process waiting for start.
func (s *Service) create(ctx context.Context, c *container, rawSpec []byte) error {
	rootfs := filepath.Join(c.bundle, "rootfs")
	spec, sysctls, err := adaptSpec(rawSpec, c.id, rootfs, c.init.io.terminal, s.pidOf)
	if err != nil {
		return err
	}
	if err := netcfg.SetSysctls(sysctls); err != nil {
		return err
	}
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), spec, 0o600); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	pidFile := filepath.Join(c.bundle, "init.pid")
	args := []string{"--bundle", c.bundle, "--pid-file", pidFile}
	exited, pid, err := s.launch(ctx, c.init, pidFile, "create", args, c.id)
	if err != nil {
		return fmt.Errorf("create %s: %w", c.init.what(), err)
	}
	c.init.running(pid, task.Status_CREATED, exited, c.initEnded)
	return nil
}

// launch opens a process's streams, runs the runc command that makes it, and
// returns its pid and the channel of its exit.
func (s *Service) launch(ctx context.Context, p *process, pidFile, verb string, args []string, id string) (<-chan reap.Exit, int, error) {
	if err := openIO(ctx, s.cfg.Hub, p.io, s.tmp); err != nil {
		return nil, 0, err
	}
	if p.io.console != nil {
		args = append(args, "--console-socket", p.io.console.path())
	}
	release := s.cfg.Reaper.Hold()
	defer release()
	if err := s.runc.run(ctx, p.io.child, verb, append(args, id)...); err != nil {
		p.io.close()
		return nil, 0, err
	}
	pid, err := readPid(pidFile)
	if err != nil {
		p.io.close()
		return nil, 0, err
	}
	exited := s.cfg.Reaper.Watch(pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.io.start(s.cfg.Hub); err != nil {
		s.cfg.Log.Warn("a process runs without its streams", "task", p.id, "exec", p.execID, "err", err)
	}
	if p.inputEnded && p.io.input != nil {
		p.io.input.CloseInput()
	}
	return exited, pid, nil
}

// initEnded ends what the init process left behind; only a container that
// shares its pid namespace has anything left.
func (c *container) initEnded() {
	if err := c.cgroup.kill(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.s.cfg.Log.Warn("processes of an ended container stay", "task", c.id, "err", err)
	}
}

// pidOf returns the process of a container that runs.
func (s *Service) pidOf(id string) (int, error) {
	c, p, err := s.get(id, "")
	if err != nil {
		return 0, err
	}
	status, pid := p.state()
	if status == task.Status_STOPPED || pid == 0 {
		return 0, fmt.Errorf("%s is not running: %w", c.init.what(), errdefs.ErrFailedPrecondition)
	}
	return pid, nil
}

func (c *container) start(ctx context.Context) error {
	c.op.Lock()
	defer c.op.Unlock()
	if status, _ := c.init.state(); status != task.Status_CREATED {
		return fmt.Errorf("%s is %v, not created: %w", c.init.what(), status, errdefs.ErrFailedPrecondition)
	}
	if err := c.letGo(ctx); err != nil {
		return fmt.Errorf("start %s: %w", c.init.what(), err)
	}
	c.init.setStatus(task.Status_RUNNING)
	return nil
}

// letGo has the init process go on that runc create left waiting: it opens
// exec.fifo for writing, tells by a byte that it did, and executes the
// container's program (libcontainer/standard_init_linux.go). This is all that
// "runc start" does, whose own start takes longer than the rest.
func (c *container) letGo(ctx context.Context) error {
	name := filepath.Join(c.s.runc.root, c.id, "exec.fifo")
	fifo, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer fifo.Close()
	defer context.AfterFunc(ctx, func() { fifo.SetReadDeadline(time.Unix(1, 0)) })()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		b := make([]byte, 16)
		n, err := fifo.Read(b)
		if n > 0 {
			return os.Remove(name)
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("wait for the process: %w", errors.Join(err, ctx.Err()))
		}
		// Nobody has opened the other end: yet, or any more.
		select {
		case <-c.init.done:
			return errors.New("the process has ended before it was started")
		case <-time.After(wait):
		}
	}
}

// addExec reserves an exec; it runs nothing.
func (c *container) addExec(p *process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.execs[p.execID] != nil {
		return fmt.Errorf("%s: %w", p.what(), errdefs.ErrAlreadyExists)
	}
	p.status = task.Status_CREATED
	c.execs[p.execID] = p
	return nil
}

func (c *container) startExec(ctx context.Context, p *process) error {
	if err := p.begin(); err != nil {
		return err
	}
	if status, _ := c.init.state(); status != task.Status_RUNNING {
		p.failed(reap.Exit{Code: 255, At: time.Now()})
		return fmt.Errorf("%s is %v, not running: %w", c.init.what(), status, errdefs.ErrFailedPrecondition)
	}
	exited, pid, err := c.launchExec(ctx, p)
	if err != nil {
		p.failed(reap.Exit{Code: 255, At: time.Now()})
		return fmt.Errorf("start %s: %w", p.what(), err)
	}
	p.running(pid, task.Status_RUNNING, exited, nil)
	return nil
}

func (c *container) launchExec(ctx context.Context, p *process) (<-chan reap.Exit, int, error) {
	dir, err := os.MkdirTemp(c.s.tmp, "exec")
	if err != nil {
		return nil, 0, err
	}
	defer os.RemoveAll(dir)
	_, initPid := c.init.state()
	process, err := resolveExecUser(p.spec, fmt.Sprintf("/proc/%d/root", initPid))
	if err != nil {
		return nil, 0, err
	}
	spec, pidFile := filepath.Join(dir, "process.json"), filepath.Join(dir, "pid")
	if err := os.WriteFile(spec, process, 0o600); err != nil {
		return nil, 0, err
	}
	args := []string{"--detach", "--process", spec, "--pid-file", pidFile}
	return c.s.launch(ctx, p, pidFile, "exec", args, c.id)
}

// execUser finds the user of an exec's process in the container's account
// files, if that runs; otherwise the user is found when the exec starts.
func (c *container) execUser(process []byte) ([]byte, error) {
	status, pid := c.init.state()
	if status != task.Status_RUNNING {
		return process, nil
	}
	return resolveExecUser(process, fmt.Sprintf("/proc/%d/root", pid))
}

// find returns the init process or an exec.
func (c *container) find(execID string) (*process, error) {
	if execID == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.execs[execID]
	if p == nil {
		return nil, fmt.Errorf("exec %s of container %s: %w", execID, c.id, errdefs.ErrNotFound)
	}
	return p, nil
}

// deleteExec forgets an exec that has ended or was never started.
func (c *container) deleteExec(ctx context.Context, p *process) error {
	c.op.Lock()
	defer c.op.Unlock()
	status, _ := p.state()
	if status == task.Status_RUNNING {
		return fmt.Errorf("%s is running: %w", p.what(), errdefs.ErrFailedPrecondition)
	}
	if err := p.io.drain(ctx); err != nil {
		return fmt.Errorf("drain output of %s: %w", p.what(), err)
	}
	p.failed(reap.Exit{At: time.Now()})
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, p.execID)
	return nil
}

// delete removes a container whose init process has ended or has never been
// started.
func (c *container) delete(ctx context.Context) error {
	c.op.Lock()
	defer c.op.Unlock()
	status, _ := c.init.state()
	if status == task.Status_RUNNING || status == task.Status_PAUSED {
		return fmt.Errorf("%s is running: %w", c.init.what(), errdefs.ErrFailedPrecondition)
	}
	if status == task.Status_STOPPED {
		if err := c.init.io.drain(ctx); err != nil {
			return fmt.Errorf("drain output of %s: %w", c.init.what(), err)
		}
	}
	if err := c.s.runc.run(ctx, streams{}, "delete", "--force", c.id); err != nil {
		return fmt.Errorf("delete %s: %w", c.init.what(), err)
	}
	if _, err := c.init.wait(ctx); err != nil {
		return err
	}
	c.init.io.drain(ctx)
	c.closeExecs()
	return c.removeBundle()
}

func (c *container) closeExecs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.execs {
		p.io.close()
		delete(c.execs, id)
	}
}

// removeBundle removes what create made; a root file system that is still
// mounted stays, and goes with its mount.
func (c *container) removeBundle() error {
	for _, name := range []string{"config.json", "init.pid"} {
		if err := os.Remove(filepath.Join(c.bundle, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove bundle: %w", err)
		}
	}
	return nil
}

func bundleDir(id string) string { return guestapi.ContainerDir(id) }

// RootDir returns a path of the guest's to a container's root: as its processes
// see it while the init process lives, else the mounted root file system.
func (s *Service) RootDir(id string) (string, error) {
	c, p, err := s.get(id, "")
	if err != nil {
		if !validID(id) {
			return "", err
		}
		return filepath.Join(bundleDir(id), "rootfs"), nil // mounted, never created or deleted
	}
	if status, pid := p.state(); status != task.Status_STOPPED {
		return fmt.Sprintf("/proc/%d/root", pid), nil
	}
	return filepath.Join(c.bundle, "rootfs"), nil
}
