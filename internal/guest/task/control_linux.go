// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/emptypb"

	"byre.dev/byre/internal/guest/taskapi"
)

// Pids lists the processes of a container.
func (s *Service) Pids(_ context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	c, _, err := s.get(r.Id, "")
	if err != nil {
		return nil, err
	}
	pids, err := c.cgroup.pids()
	if err != nil {
		return nil, fmt.Errorf("list processes of container %s: %w", r.Id, err)
	}
	resp := &taskapi.PidsResponse{}
	for _, pid := range pids {
		resp.Processes = append(resp.Processes, &task.ProcessInfo{Pid: uint32(pid)})
	}
	return resp, nil
}

// Pause freezes a container.
func (s *Service) Pause(ctx context.Context, r *taskapi.PauseRequest) (*emptypb.Empty, error) {
	return s.freeze(ctx, r.Id, task.Status_RUNNING, task.Status_PAUSED)
}

// Resume thaws a container.
func (s *Service) Resume(ctx context.Context, r *taskapi.ResumeRequest) (*emptypb.Empty, error) {
	return s.freeze(ctx, r.Id, task.Status_PAUSED, task.Status_RUNNING)
}

func (s *Service) freeze(ctx context.Context, id string, from, to task.Status) (*emptypb.Empty, error) {
	c, _, err := s.get(id, "")
	if err != nil {
		return nil, err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if status, _ := c.init.state(); status != from {
		return nil, fmt.Errorf("container %s is %v: %w", id, status, errdefs.ErrFailedPrecondition)
	}
	if err := c.cgroup.freeze(ctx, to == task.Status_PAUSED); err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	c.init.setStatus(to)
	return &emptypb.Empty{}, nil
}

// Update changes a container's limits; the resources are OCI JSON.
func (s *Service) Update(ctx context.Context, r *taskapi.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, _, err := s.get(r.Id, "")
	if err != nil {
		return nil, err
	}
	raw := r.Resources.GetValue()
	if !json.Valid(raw) {
		return nil, fmt.Errorf("resources are no JSON: %w", errdefs.ErrInvalidArgument)
	}
	c.op.Lock()
	defer c.op.Unlock()
	dir, err := os.MkdirTemp(s.tmp, "update")
	if err != nil {
		return nil, fmt.Errorf("update container %s: %w", r.Id, err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "resources.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, fmt.Errorf("update container %s: %w", r.Id, err)
	}
	if err := s.runc.run(ctx, streams{}, "update", "--resources", file, r.Id); err != nil {
		return nil, fmt.Errorf("update container %s: %w", r.Id, err)
	}
	return &emptypb.Empty{}, nil
}

// Stats returns a container's statistics as containerd's cgroup v2 metrics.
func (s *Service) Stats(_ context.Context, r *taskapi.StatsRequest) (*taskapi.StatsResponse, error) {
	c, _, err := s.get(r.Id, "")
	if err != nil {
		return nil, err
	}
	m, err := c.cgroup.metrics()
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", r.Id, err)
	}
	return &taskapi.StatsResponse{Stats: m}, nil
}

// Connect tells the pids of a container and of the agent.
func (s *Service) Connect(_ context.Context, r *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	c, _, err := s.get(r.Id, "")
	if err != nil {
		return nil, err
	}
	_, pid := c.init.state()
	return &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: uint32(pid), Version: "v3"}, nil
}

// Checkpoint is refused: the guest's runc is built without CRIU.
func (s *Service) Checkpoint(context.Context, *taskapi.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("checkpoint: %w", errdefs.ErrNotImplemented)
}

// Shutdown does nothing: the machine ends with Guest.PowerOff.
func (s *Service) Shutdown(context.Context, *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// Close ends the Service's own goroutines; containers are left to PID 1.
func (s *Service) Close() error { return s.oom.close() }
