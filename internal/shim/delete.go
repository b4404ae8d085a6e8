// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/sandbox"
)

// Delete removes an ended process. With a container's first process everything it
// had is released and its disks are flushed when Delete answers, but for one that
// is discarded.
func (s *Service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	c, p, err := s.find(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toStatus(err)
	}
	if st := p.current(); st == task.Status_RUNNING || st == task.Status_PAUSED {
		return nil, toStatus(fmt.Errorf("process %s is %s: %w", p.name(), statusWord(st), errdefs.ErrFailedPrecondition))
	}
	// What ends with its machine need not be deleted in it.
	spared := p.exec == "" && p.current() == task.Status_STOPPED && s.lastContainer()
	if err := s.deleteProcess(ctx, p, spared); err != nil {
		return nil, toStatus(err)
	}
	if r.GetExecID() != "" {
		c.mu.Lock()
		delete(c.execs, r.GetExecID())
		c.mu.Unlock()
	} else if err := s.deleteContainer(ctx, c, spared); err != nil {
		return nil, toStatus(err)
	}
	st := p.state()
	if p.exec == "" {
		s.events.publish(&eventsapi.TaskDelete{
			ContainerID: p.container, Pid: st.GetPid(), ExitStatus: st.GetExitStatus(), ExitedAt: st.GetExitedAt(),
		})
	}
	return &taskapi.DeleteResponse{Pid: st.GetPid(), ExitStatus: st.GetExitStatus(), ExitedAt: st.GetExitedAt()}, nil
}

// deleteProcess hands over the last output and deletes the process in the
// guest, unless that is spared. A process that was never started ends here.
func (s *Service) deleteProcess(ctx context.Context, p *process, spared bool) error {
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return err
	}
	drained := make(chan struct{})
	go func() { // received below
		defer close(drained)
		if st := p.takeStreams(); st != nil && p.current() == task.Status_STOPPED {
			st.drain()
		}
	}()
	if !spared {
		err = s.deleteInGuest(ctx, sb, p)
	}
	if err != nil {
		return err
	}
	<-drained
	if p.current() != task.Status_STOPPED {
		p.ended(exit{at: time.Now()})
	}
	if st := p.takeStreams(); st != nil {
		st.release()
	}
	p.watched.Wait()
	return nil
}

func (s *Service) deleteInGuest(ctx context.Context, sb *sandbox.Sandbox, p *process) error {
	_, err := sb.Task().Delete(ctx, &taskapi.DeleteRequest{ID: p.container, ExecID: p.exec})
	if err != nil && !errdefs.IsNotFound(err) && !ended(sb) {
		return fmt.Errorf("delete process %s: %w", p.name(), err)
	}
	return nil
}

// lastContainer tells whether there is but one.
func (s *Service) lastContainer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.containers) == 1
}

func ended(sb *sandbox.Sandbox) bool {
	select {
	case <-sb.Done():
		return true
	default:
		return false
	}
}

// deleteContainer releases a container. With the last one the machine ends,
// unless another has borrowed a volume of it: its disks are free for the next
// machine when this returns. Spared says that the guest has not been told yet,
// since this one was the last.
func (s *Service) deleteContainer(ctx context.Context, c *container, spared bool) error {
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return err
	}
	for _, p := range c.all()[1:] {
		if st := p.takeStreams(); st != nil {
			st.abandon()
			st.release()
		}
	}
	last := s.lastContainer()
	ends := last && (ended(sb) || sb.StopLending())
	if spared && !ends { // another one came meanwhile, or another machine
		err = s.deleteInGuest(ctx, sb, c.init)
	}
	switch {
	case err != nil:
	case ended(sb):
		err = sb.Close()
	case ends:
		err = errors.Join(c.box.ReleaseLast(ctx, c.isDiscarded()), sb.Close())
	default:
		err = c.box.Release(ctx)
	}
	if c.rootfs != nil {
		err = errors.Join(err, c.rootfs())
	}
	if err != nil {
		return err
	}
	if last && !ends {
		defer s.exitIfDone() // what was borrowed may be back by now
		return s.leaveBundle(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.init.container)
	for _, other := range s.containers {
		if other != nil {
			return moveMark(c.init.bundle, other.init.bundle)
		}
	}
	return nil
}

// leaveBundle makes the shim one that nobody finds any more: its last container
// may be started again, by another shim, while this one goes on for those who
// have borrowed volumes of its machine. It ends by itself.
func (s *Service) leaveBundle(c *container) error {
	s.log.Info("shim stays: other machines have borrowed volumes of its machine")
	s.hide()
	s.mu.Lock()
	s.ending = true
	delete(s.containers, c.init.container)
	s.mu.Unlock()
	return errors.Join(unmarkShim(c.init.bundle), os.Chdir(os.TempDir()))
}
