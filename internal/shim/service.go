// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"byre.dev/byre/internal/sandbox"
)

// container is a container of the shim's with its processes.
type container struct {
	init *process
	box  *sandbox.Container
	// rootfs undoes what the host mounted for it; nil for nothing.
	rootfs func() error
	// links is countLinks when it was created.
	links int

	mu sync.Mutex
	// execs is guarded by mu.
	execs map[string]*process
	// discarded says that its root file system is not read again. Guarded by mu.
	discarded bool
}

func (c *container) process(exec string) (*process, error) {
	if exec == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.execs[exec]
	if p == nil {
		return nil, fmt.Errorf("exec %s of container %s: %w", exec, c.init.container, errdefs.ErrNotFound)
	}
	return p, nil
}

func (c *container) isDiscarded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.discarded
}

func (c *container) all() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []*process{c.init}
	for _, p := range c.execs {
		out = append(out, p)
	}
	return out
}

// Service is containerd's Task service for the containers of one sandbox.
type Service struct {
	namespace string
	log       *slog.Logger
	events    *publisher
	claim     *claim
	// exit asks the shim to end.
	exit func()
	// hide has the shim's socket serve those who are connected alone.
	hide func()
	// hidden says that it has.
	hidden atomic.Bool
	// started has room for one: a container has started.
	started chan struct{}
	// work waits for what outlives the call that began it.
	work sync.WaitGroup

	mu sync.Mutex
	// containers has nil for one that is being created. Guarded by mu.
	containers map[string]*container
	// used is true once a container was asked for, ending once the shim was
	// asked to end. Guarded by mu.
	used, ending bool
}

var _ taskapi.TTRPCTaskService = (*Service)(nil)

func (s *Service) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (s *Service) find(id, exec string) (*container, *process, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.process(exec)
	return c, p, err
}

// guest returns the guest's Task service.
func (s *Service) guest(ctx context.Context) (taskapi.TTRPCTaskService, error) {
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return nil, err
	}
	return sb.Task(), nil
}

// Start starts a container's first process or an exec.
func (s *Service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	c, p, err := s.find(r.GetID(), r.GetExecID())
	if err == nil && r.GetExecID() == "" {
		err = s.startInit(ctx, c)
	} else if err == nil {
		err = s.startExec(ctx, p)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return &taskapi.StartResponse{Pid: p.state().GetPid()}, nil
}

func (s *Service) startInit(ctx context.Context, c *container) error {
	p := c.init
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return err
	}
	end := s.claim.timeline.Begin("start")
	defer func() {
		end()
		s.log.Debug("start took", "stages", s.claim.timeline.String())
	}()
	if status := p.current(); status != task.Status_CREATED {
		return fmt.Errorf("process %s is %s, not created: %w", p.name(), statusWord(status), errdefs.ErrFailedPrecondition)
	}
	if err := s.plugged(p, c.links); err != nil {
		return err
	}
	if err := s.feed(sb, p, p.takeStreams()); err != nil {
		return err
	}
	p.order.Lock()
	defer p.order.Unlock()
	if _, err := sb.Task().Start(ctx, &taskapi.StartRequest{ID: p.container}); err != nil {
		return sb.Explain(err)
	}
	// A process that has ended by now stays so.
	_ = p.transition(task.Status_RUNNING, task.Status_CREATED)
	select {
	case s.started <- struct{}{}:
	default: // the last one's is not seen yet
	}
	s.events.publish(&eventsapi.TaskStart{ContainerID: p.container, Pid: p.state().GetPid()})
	return nil
}

// watch waits for the process's end beside everything else. The end of the
// machine is the end of the process.
func (s *Service) watch(sb *sandbox.Sandbox, p *process) {
	p.watched.Go(func() {
		r, err := sb.Task().Wait(context.Background(), &taskapi.WaitRequest{ID: p.container, ExecID: p.exec})
		e := exit{status: killed, at: time.Now()}
		if err == nil {
			e = exit{status: r.GetExitStatus(), at: r.GetExitedAt().AsTime()}
			s.askForOOM(sb, p, e)
		} else {
			s.lost(sb, p, err)
		}
		p.halted(e)
		p.handOver()
		p.order.Lock()
		defer p.order.Unlock()
		if p.ended(e) {
			s.events.publish(&eventsapi.TaskExit{
				ContainerID: p.container, ID: p.id(), Pid: p.state().GetPid(),
				ExitStatus: e.status, ExitedAt: timestamppb.New(e.at),
			})
		}
	})
}

// lostWait is how long a machine whose agent is gone may take to be seen to
// have ended.
const lostWait = 2 * time.Second

// lost makes sure that a process that cannot be watched any more does not run:
// the machine ends, if it has not ended already.
func (s *Service) lost(sb *sandbox.Sandbox, p *process, err error) {
	if errdefs.IsNotFound(err) {
		return
	}
	select {
	case <-sb.Done():
	case <-time.After(lostWait):
	}
	err = sb.Explain(err)
	p.noteMachineError(fmt.Errorf("the container's machine ended: %w", err))
	s.log.Error("process ended with its machine", "task", p.container, "exec", p.exec, "err", err)
	s.work.Go(func() {
		if err := sb.Close(); err != nil {
			s.log.Error("machine not released in full", "err", err)
		}
	})
}

// Wait returns when a process has ended.
func (s *Service) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	_, p, err := s.find(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toStatus(err)
	}
	e, err := p.wait(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &taskapi.WaitResponse{ExitStatus: e.status, ExitedAt: timestamppb.New(e.at)}, nil
}

// State describes a process.
func (s *Service) State(_ context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	_, p, err := s.find(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toStatus(err)
	}
	return p.state(), nil
}

// Connect tells a daemon that comes back who we are.
func (s *Service) Connect(_ context.Context, r *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	resp := &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if c, err := s.container(r.GetID()); err == nil {
		resp.TaskPid = c.init.state().GetPid()
	}
	return resp, nil
}

// Shutdown ends the shim when it has no containers left, one whose creation is
// being undone included, and lends nothing.
func (s *Service) Shutdown(_ context.Context, r *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	if r.GetNow() {
		s.exit()
	}
	s.exitIfDone()
	return &emptypb.Empty{}, nil
}

// exitIfDone ends the shim if it was asked to end and nothing is left.
func (s *Service) exitIfDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb := s.claim.ready(); sb != nil && sb.Lends() {
		return
	}
	if s.ending && len(s.containers) == 0 {
		s.exit()
	}
}

// close ends what the service still has.
func (s *Service) close() error {
	err := s.claim.close()
	s.mu.Lock()
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		if c != nil {
			all = append(all, c)
		}
	}
	s.mu.Unlock()
	for _, c := range all {
		for _, p := range c.all() {
			if st := p.takeStreams(); st != nil {
				st.abandon()
				st.release()
			}
			p.watched.Wait()
		}
		if c.rootfs != nil {
			err = errors.Join(err, c.rootfs())
		}
	}
	s.work.Wait()
	s.events.close()
	return err
}
