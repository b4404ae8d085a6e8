// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"time"

	cgroups "github.com/containerd/cgroups/v3/cgroup2/stats"
	eventsapi "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
)

// oomKilled takes note of what the guest reports without being asked.
func (s *Service) oomKilled(id string) {
	if c, err := s.container(id); err == nil {
		c.init.noteOOM()
	}
	s.events.publish(&eventsapi.TaskOOM{ContainerID: id})
}

// statsWait bounds the question for a container's memory events.
const statsWait = 5 * time.Second

// askForOOM finds out whether a first process that died of SIGKILL was killed
// for want of memory: the guest's own report of it may come behind the exit.
func (s *Service) askForOOM(sb *sandbox.Sandbox, p *process, e exit) {
	if p.exec != "" || e.status != killed || p.outcome().GetOomKilled() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), statsWait)
	defer cancel()
	r, err := sb.Task().Stats(ctx, &taskapi.StatsRequest{ID: p.container})
	if err != nil {
		s.log.Debug("memory events not read", "task", p.container, "err", err)
		return
	}
	v, err := typeurl.UnmarshalAny(r.GetStats())
	if m, ok := v.(*cgroups.Metrics); err == nil && ok && m.GetMemoryEvents().GetOomKill() > 0 {
		p.noteOOM()
	}
}

// Outcome says of a container that has ended what its exit code does not.
func (a *api) Outcome(_ context.Context, r *shimapi.OutcomeRequest) (*shimapi.OutcomeResponse, error) {
	c, err := a.s.container(r.GetContainerId())
	if err != nil {
		return nil, toStatus(err)
	}
	return c.init.outcome(), nil
}
