// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"byre.dev/byre/internal/guest/reap"
	"byre.dev/byre/internal/guest/taskapi"
)

// process is a container's init process or an exec.
type process struct {
	id     string
	execID string
	io     *processIO
	// spec is an exec's process, as OCI JSON.
	spec []byte

	// done is closed when the process has ended and exit is set.
	done chan struct{}

	mu sync.Mutex
	// status is what the host is told; a process that ended is STOPPED.
	// Guarded by mu.
	status task.Status
	// pid is 0 before the process exists. Guarded by mu.
	pid int
	// begun is true once somebody starts the process. Guarded by mu.
	begun bool
	// inputEnded is true once the input was ended, be it before the process
	// exists. Guarded by mu.
	inputEnded bool
	// exit is set before done is closed.
	exit reap.Exit
}

func newProcess(id, execID string, io *processIO) *process {
	return &process{id: id, execID: execID, io: io, done: make(chan struct{})}
}

func (p *process) what() string {
	if p.execID == "" {
		return "container " + p.id
	}
	return "exec " + p.execID + " of container " + p.id
}

// running takes note of the process's pid and waits for its exit on a goroutine
// of its own, which closes done.
func (p *process) running(pid int, status task.Status, exited <-chan reap.Exit, onExit func()) {
	p.mu.Lock()
	p.pid, p.status = pid, status
	p.mu.Unlock()
	go func() { // whoever deletes the process waits for done
		e := <-exited
		p.mu.Lock()
		p.exit, p.status = e, task.Status_STOPPED
		p.mu.Unlock()
		if onExit != nil {
			onExit()
		}
		close(p.done)
	}()
}

// begin claims the one start of a process.
func (p *process) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.status != task.Status_CREATED {
		return fmt.Errorf("%s has been started: %w", p.what(), errdefs.ErrFailedPrecondition)
	}
	p.begun = true
	return nil
}

// failed marks a process that could not be started as ended.
func (p *process) failed(e reap.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != task.Status_STOPPED {
		p.exit, p.status = e, task.Status_STOPPED
		close(p.done)
	}
}

// setStatus moves a process on unless it has ended meanwhile.
func (p *process) setStatus(s task.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != task.Status_STOPPED {
		p.status = s
	}
}

func (p *process) state() (status task.Status, pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.pid
}

// wait returns when the process has ended.
func (p *process) wait(ctx context.Context) (reap.Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return reap.Exit{}, fmt.Errorf("wait for %s: %w", p.what(), ctx.Err())
	}
}

// signal signals the process; if it is just being started, its program: runc's
// own, whose place that takes, would end with most signals.
func (p *process) signal(ctx context.Context, r *reap.Reaper, sig unix.Signal) error {
	status, pid := p.state()
	if pid == 0 {
		return fmt.Errorf("%s has not been started: %w", p.what(), errdefs.ErrFailedPrecondition)
	}
	if status == task.Status_RUNNING && sig != unix.SIGKILL {
		p.awaitProgram(ctx, pid)
	}
	err := r.Signal(pid, sig)
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: process already finished: %w", p.what(), errdefs.ErrNotFound)
	}
	return err
}

// programPatience bounds the wait for a process's program. A process that gives
// itself the name of runc's has its signals that much later.
const programPatience = 2 * time.Second

// awaitProgram returns when runc's init, known by the name that it gives itself
// (libcontainer/nsenter/nsexec.c), has executed the program of the process.
func (p *process) awaitProgram(ctx context.Context, pid int) {
	ctx, cancel := context.WithTimeout(ctx, programPatience)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || strings.TrimSpace(string(name)) != "runc:[2:INIT]" {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-time.After(wait):
		}
	}
}

func (p *process) resize(width, height uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.io.pty == nil {
		return fmt.Errorf("%s has no terminal: %w", p.what(), errdefs.ErrFailedPrecondition)
	}
	if p.status == task.Status_STOPPED {
		return fmt.Errorf("%s has ended: %w", p.what(), errdefs.ErrNotFound)
	}
	return resize(p.io.pty, width, height)
}

// closeInput ends the process's input, or has it end when the process begins.
func (p *process) closeInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inputEnded = true
	if p.io.input != nil {
		p.io.input.CloseInput()
	}
}

func (p *process) stateResponse() *taskapi.StateResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &taskapi.StateResponse{
		Id: p.id, ExecId: p.execID, Pid: uint32(p.pid), Status: p.status,
		Stdin: p.io.inName, Stdout: p.io.outName, Stderr: p.io.errName, Terminal: p.io.terminal,
	}
	if p.status == task.Status_STOPPED {
		r.ExitStatus = uint32(p.exit.Code)
		r.ExitedAt = timestamppb.New(p.exit.At)
	}
	return r
}
