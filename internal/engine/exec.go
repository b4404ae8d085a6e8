// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/engine/spec"
	"byre.dev/byre/internal/engine/stream"
	"byre.dev/byre/internal/engine/task"
)

// execution is a process added to a container.
type execution struct {
	id string
	c  *Container
	// req is what was asked for; keys are its detach keys.
	req  container.ExecCreateRequest
	keys []byte

	// mu guards what follows.
	mu       sync.Mutex
	started  bool
	running  bool
	pid      int
	exitCode *int
	done     chan struct{}
}

// execTable finds execs by ID. Those that have ended stay until the run of
// their container ends, or keepEnded is over.
type execTable struct {
	mu  sync.Mutex
	all map[string]*execution
}

// keepEnded is how long an exec that has ended can be inspected.
const keepEnded = 5 * time.Minute

func newExecTable() *execTable { return &execTable{all: map[string]*execution{}} }

func (t *execTable) get(id string) (*execution, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, ok := t.all[id]
	if !ok {
		return nil, errdefs.ErrNotFound.WithMessage("No such exec instance: " + id)
	}
	return x, nil
}

func (t *execTable) add(x *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[x.id] = x
}

func (t *execTable) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, id)
}

// drop forgets the execs of a container that were never started; the others go
// by themselves.
func (t *execTable) drop(containerID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.all {
		x.mu.Lock()
		idle := !x.started
		x.mu.Unlock()
		if x.c.id == containerID && idle {
			delete(t.all, id)
		}
	}
}

// of returns the IDs of a container's execs that run.
func (t *execTable) of(containerID string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, x := range t.all {
		x.mu.Lock()
		if x.c.id == containerID && x.running {
			ids = append(ids, id)
		}
		x.mu.Unlock()
	}
	return ids
}

// ExecCreate describes a process to be added to a running container. A user
// whom the container has not is an error here already.
func (e *Engine) ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return "", err
	}
	if len(req.Cmd) == 0 {
		return "", invalid("no exec command specified")
	}
	keys, err := stream.ParseKeys(req.DetachKeys)
	if err != nil {
		return "", err
	}
	if err := canExec(c); err != nil {
		return "", err
	}
	x := &execution{id: newID(), c: c, req: req, keys: keys, done: make(chan struct{})}
	if err := e.execUser(ctx, x); err != nil {
		return "", err
	}
	e.execs.add(x)
	e.publish(c, events.Action(string(events.ActionExecCreate)+": "+strings.Join(req.Cmd, " ")), map[string]string{"execID": x.id})
	return x.id, nil
}

// execUser says whether the container has the user of a command. Names are
// known in the machine alone: it is asked to add the process, which is not
// started.
func (e *Engine) execUser(ctx context.Context, x *execution) error {
	if strings.Trim(x.req.User, "0123456789:") == "" {
		return nil
	}
	process, err := e.execProcess(x, nil)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.tasks.AddExec(ctx, x.c.id, x.id, process, task.Stdio{}); err != nil {
		err, _ = startError(err, "")
		return err
	}
	return e.tasks.DeleteExec(ctx, x.c.id, x.id)
}

// execProcess is an exec's process as its container's specification has it,
// with a terminal of that size unless size is nil.
func (e *Engine) execProcess(x *execution, size *[2]uint) (*specs.Process, error) {
	r := x.c.snapshot()
	s, err := spec.Build(e.specInput(r, nil))
	if err != nil {
		return nil, err
	}
	want := spec.Exec{
		Args: x.req.Cmd, Env: x.req.Env, User: x.req.User, Dir: x.req.WorkingDir,
		Terminal: x.req.Tty, Privileged: x.req.Privileged,
	}
	if size != nil {
		want.Size = *size
	}
	return spec.ExecProcess(s, r.Host, want), nil
}

func canExec(c *Container) error {
	s := c.snapshot().State
	switch {
	case !s.Running:
		return errNotRunning(c.id)
	case s.Paused:
		return conflict("Container %s is paused, unpause the container before exec", c.id)
	case s.Restarting:
		return conflict("Container %s is restarting, wait until the container is running", c.id)
	}
	return nil
}

// ExecSession is a started exec; Attachment is nil for one that is detached.
type ExecSession struct {
	*Attachment
	// Started waits until the process runs, or says why it does not. It must be
	// called once, after the client was told that its streams are ready.
	Started func(ctx context.Context) error
}

// ErrExecStarted says that an exec has been started before: it runs once.
var ErrExecStarted = fmt.Errorf("is already running or has already run: %w", errdefs.ErrConflict)

// ExecStart starts an exec. Unless it is detached, the session carries its
// streams. One that was started before is ErrExecStarted.
func (e *Engine) ExecStart(ctx context.Context, id string, req container.ExecStartRequest) (*ExecSession, error) {
	x, err := e.execs.get(id)
	if err != nil {
		return nil, err
	}
	if err := canExec(x.c); err != nil {
		return nil, err
	}
	x.mu.Lock()
	if x.started {
		x.mu.Unlock()
		return nil, fmt.Errorf("exec %s %w", id, ErrExecStarted)
	}
	x.started = true
	x.mu.Unlock()
	stdin := x.req.AttachStdin && !req.Detach
	hub, err := stream.Create(stream.Config{
		Dir: x.c.dir, Name: short(x.id), Terminal: x.req.Tty, Stdin: stdin, Logger: x.c.log,
	})
	if err != nil {
		return nil, err
	}
	size := req.ConsoleSize
	if size == nil {
		size = x.req.ConsoleSize
	}
	s := &ExecSession{Started: func(ctx context.Context) error { return e.execBoot(ctx, x, hub, size) }}
	if req.Detach {
		return s, nil
	}
	opts := AttachOptions{Stdin: stdin, Stdout: x.req.AttachStdout, Stderr: x.req.AttachStderr}
	s.Attachment = &Attachment{
		Terminal: x.req.Tty, Client: hub.Attach(opts.kinds()...), hub: hub, stdin: stdin, keys: x.keys, stdinOnce: true,
		endStdin: func() { e.execEndStdin(x) },
		onDetach: func() { e.publish(x.c, events.ActionExecDetach, map[string]string{"execID": x.id}) },
	}
	return s, nil
}

// execBoot creates and starts the process and follows it.
func (e *Engine) execBoot(ctx context.Context, x *execution, hub *stream.Hub, size *[2]uint) (err error) {
	ctx = context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			err = e.execFailed(ctx, x, hub, err)
		}
	}()
	process, err := e.execProcess(x, size)
	if err != nil {
		return err
	}
	io := task.Stdio{Terminal: x.req.Tty}
	io.Stdin, io.Stdout, io.Stderr = hub.Paths()
	hub.Run()
	if err := e.tasks.AddExec(ctx, x.c.id, x.id, process, io); err != nil {
		return err
	}
	pid, err := e.tasks.Start(ctx, x.c.id, x.id)
	// The shim opens an exec's streams no later than at its start.
	hub.Opened()
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.running, x.pid = true, int(pid)
	x.mu.Unlock()
	e.publish(x.c, events.Action(string(events.ActionExecStart)+": "+strings.Join(x.req.Cmd, " ")), map[string]string{"execID": x.id})
	e.run.Go(func() { e.execFollow(x, hub) })
	return nil
}

// execFailed notes why an exec did not start, in the words by which Docker's
// CLI knows the exit codes.
func (e *Engine) execFailed(ctx context.Context, x *execution, hub *stream.Hub, cause error) error {
	err, code := startError(cause, "")
	err = errors.Join(err, e.tasks.DeleteExec(ctx, x.c.id, x.id))
	e.execEnded(x, hub, code)
	return err
}

func (e *Engine) execFollow(x *execution, hub *stream.Hub) {
	exit, err := e.tasks.Wait(e.ctx, x.c.id, x.id)
	if e.ctx.Err() != nil {
		_ = hub.Close()
		return
	}
	if err != nil {
		exit.Code = exitLost
	}
	hub.Finish(drainPatience)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), cleanupTimeout)
	defer cancel()
	if err := e.tasks.DeleteExec(ctx, x.c.id, x.id); err != nil {
		x.c.log.Debug("exec not deleted", "exec", short(x.id), "err", err)
	}
	e.execEnded(x, hub, exit.Code)
	e.publish(x.c, events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": fmt.Sprint(exit.Code)})
}

// execEnded sets the exit code before the streams end: who has seen the end of
// the streams can ask for it.
func (e *Engine) execEnded(x *execution, hub *stream.Hub, code int) {
	x.mu.Lock()
	x.running, x.exitCode = false, &code
	close(x.done)
	x.mu.Unlock()
	if err := hub.Close(); err != nil {
		x.c.log.Warn("exec's streams not closed", "exec", short(x.id), "err", err)
	}
	hub.Remove()
	time.AfterFunc(keepEnded, func() { e.execs.remove(x.id) })
}

func (e *Engine) execEndStdin(x *execution) {
	err := e.tasks.CloseStdin(e.ctx, x.c.id, x.id)
	if err != nil && !errdefs.IsNotFound(err) && e.ctx.Err() == nil {
		x.c.log.Warn("standard input not closed", "exec", short(x.id), "err", err)
	}
}

// ExecInspect describes an exec.
func (e *Engine) ExecInspect(id string) (container.ExecInspectResponse, error) {
	x, err := e.execs.get(id)
	if err != nil {
		return container.ExecInspectResponse{}, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	privileged := x.req.Privileged
	return container.ExecInspectResponse{
		ID: x.id, Running: x.running, ExitCode: x.exitCode, ContainerID: x.c.id, Pid: x.pid,
		OpenStdin: x.req.AttachStdin, OpenStdout: x.req.AttachStdout, OpenStderr: x.req.AttachStderr,
		CanRemove: x.exitCode != nil, DetachKeys: x.keys,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: x.req.Tty, Entrypoint: x.req.Cmd[0], Arguments: x.req.Cmd[1:], Privileged: &privileged, User: x.req.User,
		},
	}, nil
}

// ExecResize sets the size of an exec's terminal.
func (e *Engine) ExecResize(ctx context.Context, id string, height, width uint32) error {
	x, err := e.execs.get(id)
	if err != nil {
		return err
	}
	if _, err := x.c.running(); err != nil {
		return err
	}
	return e.tasks.Resize(ctx, x.c.id, x.id, width, height)
}

// Resize sets the size of a container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, height, width uint32) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	if _, err := c.running(); err != nil {
		return err
	}
	if err := e.tasks.Resize(ctx, c.id, "", width, height); err != nil {
		return err
	}
	e.publish(c, events.ActionResize, map[string]string{"height": fmt.Sprint(height), "width": fmt.Sprint(width)})
	return nil
}
