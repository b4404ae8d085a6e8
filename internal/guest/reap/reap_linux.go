// SPDX-License-Identifier: Apache-2.0

package reap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Exit is how a process ended.
type Exit struct {
	// Pid is the process's id, free for reuse by now.
	Pid int
	// Code is the exit code, 128+n for a process that signal n ended.
	Code int
	// At is when the reaper saw the exit.
	At time.Time
}

// Reaper collects the exits of all children of this process. Use New.
type Reaper struct {
	mu sync.Mutex
	// waiters has the processes that somebody waits for. Guarded by mu.
	waiters map[int]chan Exit
	// held counts Holds. Guarded by mu.
	held int
	// kept has exits of unknown processes during a Hold. Guarded by mu.
	kept map[int]Exit
}

// New returns a Reaper; nothing is reaped before Run.
func New() *Reaper {
	return &Reaper{waiters: map[int]chan Exit{}, kept: map[int]Exit{}}
}

// Run reaps until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	sig := make(chan os.Signal, 1) // one pending signal is enough: every round reaps all
	signal.Notify(sig, unix.SIGCHLD)
	defer signal.Stop(sig)
	for {
		r.reapAll()
		select {
		case <-sig:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Reaper) reapAll() {
	for {
		// The lock is held across wait4 so that Start has registered a child
		// before its status can be taken.
		r.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			r.mu.Unlock()
			continue
		}
		if err != nil || pid <= 0 {
			r.mu.Unlock()
			return
		}
		r.exitedLocked(Exit{Pid: pid, Code: exitCode(status), At: time.Now()})
		r.mu.Unlock()
	}
}

func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

func (r *Reaper) exitedLocked(e Exit) {
	if c, ok := r.waiters[e.Pid]; ok {
		delete(r.waiters, e.Pid)
		c <- e // capacity 1, sent once
		return
	}
	if r.held > 0 {
		r.kept[e.Pid] = e
	}
}

// Start starts cmd, whose standard streams must be files or nil, and returns its
// pid and the channel that receives its exit. The caller must not call cmd.Wait,
// and finds no pid in cmd.Process: os/exec has let go of it.
func (r *Reaper) Start(cmd *exec.Cmd) (pid int, exit <-chan Exit, err error) {
	for _, s := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if _, file := s.(*os.File); s != nil && !file {
			return 0, nil, fmt.Errorf("start %s: standard streams must be files", cmd.Path)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	pid = cmd.Process.Pid
	delete(r.kept, pid)
	c := make(chan Exit, 1)
	r.waiters[pid] = c
	// Release only drops os/exec's own hold on the process.
	return pid, c, cmd.Process.Release()
}

// Hold keeps the exits of all processes until release is called.
func (r *Reaper) Hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held++
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.held--; r.held == 0 {
			clear(r.kept)
		}
	})
}

// Watch returns the channel that receives the exit of a process that became a
// child of this one during the caller's Hold. A process is watched once.
func (r *Reaper) Watch(pid int) <-chan Exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan Exit, 1)
	if e, ok := r.kept[pid]; ok {
		delete(r.kept, pid)
		c <- e
		return c
	}
	r.waiters[pid] = c
	return c
}

// Signal sends a signal to a process that is watched or was started here and
// has not been reaped. It returns os.ErrProcessDone otherwise: a pid that was
// reused is never hit.
func (r *Reaper) Signal(pid int, sig unix.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiters[pid]; !ok {
		return os.ErrProcessDone
	}
	if err := unix.Kill(pid, sig); errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}
