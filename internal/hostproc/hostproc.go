// SPDX-License-Identifier: Apache-2.0

// Package hostproc starts child processes that die with this process, however
// it dies: by the parent-death signal on Linux, by a job object on Windows, by
// a watching shell on macOS.
package hostproc

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
)

// Process is a child that dies with us. Its methods are safe for concurrent
// use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	// err is written before done is closed.
	err error
	// release gives back what tied the child to us.
	release func()
}

// Start starts cmd, whose SysProcAttr must be nil, tied to this process.
func Start(cmd *exec.Cmd) (*Process, error) {
	return StartAfter(nil, cmd)
}

// StartAfter is Start with a call of prepare, which may be nil, on the thread
// that the child is then forked from, and that nothing else runs on: what
// prepare does to the thread, the child inherits.
func StartAfter(prepare func() error, cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	// The goroutine ends with the child. It keeps its thread: Linux sends the
	// parent-death signal when the thread that forked ends (prctl(2)).
	go func() {
		runtime.LockOSThread()
		err := error(nil)
		if prepare != nil {
			err = prepare()
		}
		if err == nil {
			p.release, err = startTied(cmd)
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		p.release()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// PID is the child's process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the child ended, as exec.Cmd.Wait says it; nil before Done.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Kill ends the child at once and returns when it is gone.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err == nil {
		<-p.done
	}
	return err
}
