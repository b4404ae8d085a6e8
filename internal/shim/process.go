// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/timestamppb"

	"byre.dev/byre/internal/shimapi"
)

// exit is how a process ended.
type exit struct {
	status uint32
	at     time.Time
}

// killed is the exit of a process whose machine ended under it: as by SIGKILL.
const killed = 128 + 9

// process is a container's first process or an exec, as the host knows it.
type process struct {
	container, exec string
	bundle          string
	stdio           stdio
	// spec is an exec's process, for the guest.
	spec []byte

	// exited is closed when exit is set and the last output is handed over.
	exited chan struct{}
	// order is held while the process is being started, so that its exit is
	// published behind its start. It is the one lock that is held across a call
	// to the guest; nothing else is taken under it but mu.
	order sync.Mutex
	// watched waits for the goroutine that watches the process.
	watched sync.WaitGroup

	mu sync.Mutex
	// The rest is guarded by mu.
	status  task.Status
	pid     uint32
	exit    exit
	streams *streams
	// inputEnded is true once the input was ended, be it before there are
	// streams.
	inputEnded bool
	// oomKilled and machineError are what Outcome tells of a first process.
	oomKilled    bool
	machineError string
}

func newProcess(container, exec, bundle string, io stdio) *process {
	return &process{
		container: container, exec: exec, bundle: bundle, stdio: io,
		exited: make(chan struct{}), status: task.Status_CREATED,
	}
}

// name is for logs and the names of streams.
func (p *process) name() string {
	if p.exec == "" {
		return p.container
	}
	return p.container + "/" + p.exec
}

// streamPrefix makes the names of the process's streams in the guest.
func (p *process) streamPrefix() string {
	if p.exec == "" {
		return "t-" + short(p.container)
	}
	return "x-" + short(p.container+"/"+p.exec)
}

// short is a name for the guest that is never too long for it.
func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:12])
}

// guestStreams names the streams that the process uses: input, output, error.
func guestStreams(p *process) (names [3]string) {
	wanted := []bool{
		p.stdio.Stdin != "",
		p.stdio.Stdout != "",
		!p.stdio.Terminal && (p.stdio.Stderr != "" || strings.Contains(p.stdio.Stdout, "://")),
	}
	for i, suffix := range []string{"/stdin", "/stdout", "/stderr"} {
		if wanted[i] {
			names[i] = p.streamPrefix() + suffix
		}
	}
	return names
}

// id is what events call the process.
func (p *process) id() string {
	if p.exec == "" {
		return p.container
	}
	return p.exec
}

func (p *process) current() task.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// transition moves the process from one state to another, or says why not.
func (p *process) transition(to task.Status, from ...task.Status) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range from {
		if p.status == f {
			p.status = to
			return nil
		}
	}
	return fmt.Errorf("process %s is %s: %w", p.name(), statusWord(p.status), errdefs.ErrFailedPrecondition)
}

func statusWord(s task.Status) string {
	switch s {
	case task.Status_CREATED:
		return "created"
	case task.Status_RUNNING:
		return "running"
	case task.Status_STOPPED:
		return "stopped"
	case task.Status_PAUSED:
		return "paused"
	case task.Status_PAUSING:
		return "pausing"
	}
	return "unknown"
}

// halted records the exit, once, for whoever asks for the state. Those who wait
// for the exit are told by ended.
func (p *process) halted(e exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.haltedLocked(e)
}

func (p *process) haltedLocked(e exit) {
	if p.status != task.Status_STOPPED {
		p.exit, p.status = e, task.Status_STOPPED
	}
}

// ended tells of the exit, which is e unless one was recorded before. It reports
// whether this was the first time.
func (p *process) ended(e exit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return false
	default:
	}
	p.haltedLocked(e)
	close(p.exited)
	return true
}

// wait returns the exit.
func (p *process) wait(ctx context.Context) (exit, error) {
	select {
	case <-p.exited:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.exit, nil
	case <-ctx.Done():
		return exit{}, ctx.Err()
	}
}

func (p *process) setPID(pid uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
}

func (p *process) setStreams(s *streams) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = s
	if p.inputEnded {
		s.finishInput()
	}
}

// endInput ends standard input behind what has been written to it.
func (p *process) endInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inputEnded = true
	if p.streams != nil {
		p.streams.finishInput()
	}
}

func (p *process) noteOOM() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oomKilled = true
}

func (p *process) noteMachineError(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machineError = err.Error()
}

func (p *process) outcome() *shimapi.OutcomeResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &shimapi.OutcomeResponse{OomKilled: p.oomKilled, MachineError: p.machineError}
}

// execQuiet is how long an ended exec's output must be silent to be taken for
// complete: a process that it left behind may hold the streams open.
const execQuiet = 500 * time.Millisecond

// handOver waits, within bounds, until the output of a process that has ended is
// in its reader's hands. Clients close their ends when they hear of the exit
// (Cancel in containerd's pkg/cio/io_unix.go), and what is in a FIFO then is
// lost.
func (p *process) handOver() {
	st := p.takeStreams()
	if st == nil {
		return
	}
	quiet := stallWait
	if p.exec != "" {
		quiet = execQuiet
	}
	st.settle(quiet, (*streams).taken)
}

func (p *process) takeStreams() *streams {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams
}

func (p *process) state() *taskapi.StateResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &taskapi.StateResponse{
		ID: p.container, ExecID: p.exec, Bundle: p.bundle, Pid: p.pid, Status: p.status,
		Stdin: p.stdio.Stdin, Stdout: p.stdio.Stdout, Stderr: p.stdio.Stderr, Terminal: p.stdio.Terminal,
	}
	if p.status == task.Status_STOPPED {
		r.ExitStatus, r.ExitedAt = p.exit.status, timestamppb.New(p.exit.at)
	}
	return r
}
