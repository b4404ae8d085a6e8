// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"byre.dev/byre/internal/sandbox"
)

// ok is the answer to a call that has none.
func ok(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, toStatus(err)
	}
	return &emptypb.Empty{}, nil
}

// Exec adds a process to a container; Start runs it.
func (s *Service) Exec(ctx context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.GetID())
	if err != nil {
		return ok(err)
	}
	p := newProcess(r.GetID(), r.GetExecID(), c.init.bundle, stdio{
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal(),
	})
	if err := s.addExec(ctx, c, p, r.GetSpec()); err != nil {
		return ok(err)
	}
	s.events.publish(&eventsapi.TaskExecAdded{ContainerID: p.container, ExecID: p.exec})
	return ok(nil)
}

func (s *Service) addExec(ctx context.Context, c *container, p *process, spec *anypb.Any) error {
	value, err := s.execSpec(spec.GetValue())
	if err != nil {
		return fmt.Errorf("exec %s: %w: %w", p.exec, err, errdefs.ErrInvalidArgument)
	}
	c.mu.Lock()
	taken := c.execs[p.exec] != nil || p.exec == ""
	if !taken {
		c.execs[p.exec] = p
	}
	c.mu.Unlock()
	if taken {
		return fmt.Errorf("exec %s: %w", p.exec, errdefs.ErrAlreadyExists)
	}
	guest, err := s.guest(ctx)
	if err == nil {
		names := guestStreams(p)
		_, err = guest.Exec(ctx, &taskapi.ExecProcessRequest{
			ID: p.container, ExecID: p.exec, Terminal: p.stdio.Terminal,
			Stdin: names[0], Stdout: names[1], Stderr: names[2],
			Spec: &anypb.Any{TypeUrl: spec.GetTypeUrl(), Value: value},
		})
	}
	if err != nil {
		c.mu.Lock()
		delete(c.execs, p.exec)
		c.mu.Unlock()
	}
	return err
}

func (s *Service) execSpec(raw []byte) ([]byte, error) {
	p := &specs.Process{}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("decode process: %w", err)
	}
	b, dropped, err := sandbox.EncodeProcess(p)
	for _, d := range dropped {
		s.log.Debug("left out of the guest's specification", "reason", d)
	}
	return b, err
}

// startExec opens the streams beside the guest's start, which waits for them.
func (s *Service) startExec(ctx context.Context, p *process) error {
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return err
	}
	if err := p.transition(task.Status_RUNNING, task.Status_CREATED); err != nil {
		return err
	}
	st, err := openStreams(ctx, sb, p.streamPrefix(), p.stdio, logContext{p.exec, s.namespace}, s.log)
	if err == nil {
		p.setStreams(st)
		err = s.feed(sb, p, st)
	}
	if err == nil {
		_, err = sb.Task().Start(ctx, &taskapi.StartRequest{ID: p.container, ExecID: p.exec})
	}
	if err != nil {
		if st != nil {
			st.abandon()
		}
		p.ended(exit{status: 255, at: time.Now()})
		return sb.Explain(err)
	}
	p.setPID(s.claim.pid(sb))
	s.events.publish(&eventsapi.TaskExecStarted{ContainerID: p.container, ExecID: p.exec, Pid: p.state().GetPid()})
	s.watch(sb, p)
	return nil
}

// Kill signals a process, or all of a container.
func (s *Service) Kill(ctx context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	_, p, err := s.find(r.GetID(), r.GetExecID())
	if err != nil {
		return ok(err)
	}
	if p.current() == task.Status_STOPPED {
		return ok(fmt.Errorf("process %s: process already finished: %w", p.name(), errdefs.ErrNotFound))
	}
	return s.forward(ctx, func(g taskapi.TTRPCTaskService) error {
		_, err := g.Kill(ctx, r)
		return err
	})
}

// forward makes a call in the guest.
func (s *Service) forward(ctx context.Context, call func(taskapi.TTRPCTaskService) error) (*emptypb.Empty, error) {
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return ok(err)
	}
	return ok(sb.Explain(call(sb.Task())))
}

// ResizePty sets the size of a process's terminal.
func (s *Service) ResizePty(ctx context.Context, r *taskapi.ResizePtyRequest) (*emptypb.Empty, error) {
	if _, _, err := s.find(r.GetID(), r.GetExecID()); err != nil {
		return ok(err)
	}
	return s.forward(ctx, func(g taskapi.TTRPCTaskService) error {
		_, err := g.ResizePty(ctx, r)
		return err
	})
}

// CloseIO ends a process's standard input behind what has been written to it.
// It answers at once: how long the process takes to read that is its affair.
func (s *Service) CloseIO(_ context.Context, r *taskapi.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.find(r.GetID(), r.GetExecID())
	if err != nil {
		return ok(err)
	}
	if r.GetStdin() {
		p.endInput()
	}
	return ok(nil)
}

// feed starts a process's standard input and ends it in the guest when the
// host's has ended.
func (s *Service) feed(sb *sandbox.Sandbox, p *process, st *streams) error {
	sent, err := st.begin()
	if err != nil || sent == nil {
		return err
	}
	s.work.Go(func() {
		select {
		case <-sent:
		case <-p.exited:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), closeIOWait)
		defer cancel()
		_, err := sb.Task().CloseIO(ctx, &taskapi.CloseIORequest{ID: p.container, ExecID: p.exec, Stdin: true})
		if err != nil && !errdefs.IsNotFound(err) {
			s.log.Debug("standard input not closed in the guest", "task", p.container, "exec", p.exec, "err", err)
		}
	})
	return nil
}

// closeIOWait bounds the call that ends a standard input in the guest.
const closeIOWait = 30 * time.Second

// Pause stops a container's processes where they are.
func (s *Service) Pause(ctx context.Context, r *taskapi.PauseRequest) (*emptypb.Empty, error) {
	_, p, err := s.find(r.GetID(), "")
	if err != nil {
		return ok(err)
	}
	if _, err := s.forward(ctx, func(g taskapi.TTRPCTaskService) error {
		_, err := g.Pause(ctx, r)
		return err
	}); err != nil {
		return nil, err
	}
	// A process that ended meanwhile stays stopped.
	if p.transition(task.Status_PAUSED, task.Status_RUNNING) == nil {
		s.events.publish(&eventsapi.TaskPaused{ContainerID: r.GetID()})
	}
	return ok(nil)
}

// Resume lets a paused container go on.
func (s *Service) Resume(ctx context.Context, r *taskapi.ResumeRequest) (*emptypb.Empty, error) {
	_, p, err := s.find(r.GetID(), "")
	if err != nil {
		return ok(err)
	}
	if _, err := s.forward(ctx, func(g taskapi.TTRPCTaskService) error {
		_, err := g.Resume(ctx, r)
		return err
	}); err != nil {
		return nil, err
	}
	if p.transition(task.Status_RUNNING, task.Status_PAUSED) == nil {
		s.events.publish(&eventsapi.TaskResumed{ContainerID: r.GetID()})
	}
	return ok(nil)
}

// Checkpoint is refused: a machine's kernel cannot save a process tree for
// another.
func (s *Service) Checkpoint(context.Context, *taskapi.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return ok(fmt.Errorf("checkpoint: containers in a machine cannot be checkpointed: %w", errdefs.ErrNotImplemented))
}

// Update changes a container's resources.
func (s *Service) Update(ctx context.Context, r *taskapi.UpdateTaskRequest) (*emptypb.Empty, error) {
	if _, err := s.container(r.GetID()); err != nil {
		return ok(err)
	}
	return s.forward(ctx, func(g taskapi.TTRPCTaskService) error {
		_, err := g.Update(ctx, r)
		return err
	})
}

// Stats returns the container's control group figures.
func (s *Service) Stats(ctx context.Context, r *taskapi.StatsRequest) (resp *taskapi.StatsResponse, err error) {
	if _, err := s.container(r.GetID()); err != nil {
		return nil, toStatus(err)
	}
	_, err = s.forward(ctx, func(g taskapi.TTRPCTaskService) error {
		var err error
		resp, err = g.Stats(ctx, r)
		return err
	})
	return resp, err
}

// Pids lists the container's processes as the host has them, which is the one
// that carries the machine: engines look the pids up on the host (docker top),
// where pids of the guest are those of strangers. It is there until the
// container is deleted, like a zombie: a daemon that comes back takes a shim
// without processes for a leftover and would lose the exit code.
func (s *Service) Pids(_ context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	_, p, err := s.find(r.GetID(), "")
	if err != nil {
		return nil, toStatus(err)
	}
	return &taskapi.PidsResponse{Processes: []*task.ProcessInfo{{Pid: p.state().GetPid()}}}, nil
}
