// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"byre.dev/byre/internal/guest/reap"
	"byre.dev/byre/internal/guest/stdio"
	"byre.dev/byre/internal/guest/taskapi"
	"byre.dev/byre/internal/guestapi"
)

// Config is what a Service needs.
type Config struct {
	// Runc is the path of the runc program.
	Runc string
	// Reaper is PID 1's.
	Reaper *reap.Reaper
	// Hub has the streams that the host opens.
	Hub *stdio.Hub
	// OOM is called, on a goroutine of the Service, when the kernel has killed
	// a process of a container for want of memory; nil to ignore.
	OOM func(id string)
	// Log is the guest's log; nil discards.
	Log *slog.Logger
}

// Service is containerd's Task service. Use New.
type Service struct {
	cfg  Config
	runc *runc
	tmp  string
	oom  *oomWatch

	mu sync.Mutex
	// containers has all containers by id, nil while one is being made.
	// Guarded by mu.
	containers map[string]*container
}

var _ taskapi.TaskService = (*Service)(nil)

// New returns a Service that keeps its state below guestapi.RuntimeDir.
func New(cfg Config) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	tmp, state := guestapi.RuntimeDir+"/tmp", guestapi.RuntimeDir+"/runc"
	for _, dir := range []string{tmp, state, guestapi.ContainerDir("")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	s := &Service{
		cfg: cfg, tmp: tmp, containers: map[string]*container{},
		runc: &runc{path: cfg.Runc, root: state, logs: tmp, reaper: cfg.Reaper},
	}
	var err error
	s.oom, err = watchOOM(cfg.OOM, cfg.Log)
	return s, err
}

// validID tells whether an id can be a file name and a cgroup's.
func validID(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '.' || id[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r))
	})
}

func (s *Service) get(id, execID string) (*container, *process, error) {
	s.mu.Lock()
	c := s.containers[id]
	s.mu.Unlock()
	if c == nil {
		return nil, nil, fmt.Errorf("container %q: %w", id, errdefs.ErrNotFound)
	}
	p, err := c.find(execID)
	return c, p, err
}

// Create makes a container from guestapi.CreateOptions, its init process
// waiting for Start. Its root file system has been mounted before.
func (s *Service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	opts, err := createOptions(r)
	if err != nil {
		return nil, err
	}
	c := &container{s: s, id: r.Id, bundle: bundleDir(r.Id), cgroup: containerCgroup(r.Id), execs: map[string]*process{}}
	c.init = newProcess(r.Id, "", &processIO{
		terminal: r.Terminal, inName: r.Stdin, outName: r.Stdout, errName: r.Stderr,
	})
	if err := s.reserve(r.Id); err != nil {
		return nil, err
	}
	if err := s.create(ctx, c, opts.Spec); err != nil {
		s.undoCreate(ctx, c)
		return nil, err
	}
	s.oom.add(c.id, c.cgroup)
	s.mu.Lock()
	s.containers[r.Id] = c
	s.mu.Unlock()
	_, pid := c.init.state()
	return &taskapi.CreateTaskResponse{Pid: uint32(pid)}, nil
}

func createOptions(r *taskapi.CreateTaskRequest) (*guestapi.CreateOptions, error) {
	opts := &guestapi.CreateOptions{}
	switch {
	case !validID(r.Id):
		return nil, fmt.Errorf("container id %q: %w", r.Id, errdefs.ErrInvalidArgument)
	case r.Checkpoint != "" || r.ParentCheckpoint != "":
		return nil, fmt.Errorf("restoring a checkpoint: %w", errdefs.ErrNotImplemented)
	case len(r.Rootfs) != 0:
		return nil, fmt.Errorf("mounts in a create request; Guest.Mount makes them: %w", errdefs.ErrInvalidArgument)
	case r.Options.MessageName() != opts.ProtoReflect().Descriptor().FullName():
		return nil, fmt.Errorf("create options of type %q: %w", r.Options.GetTypeUrl(), errdefs.ErrInvalidArgument)
	}
	if err := proto.Unmarshal(r.Options.Value, opts); err != nil {
		return nil, fmt.Errorf("decode create options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return opts, nil
}

func (s *Service) reserve(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.containers[id]; ok {
		return fmt.Errorf("container %q: %w", id, errdefs.ErrAlreadyExists)
	}
	s.containers[id] = nil
	return nil
}

func (s *Service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}

// undoCreate removes what a failed create left.
func (s *Service) undoCreate(ctx context.Context, c *container) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	c.init.io.close()
	if err := s.runc.run(ctx, streams{}, "delete", "--force", c.id); err != nil {
		s.cfg.Log.Debug("nothing of a failed create to delete", "task", c.id, "err", err)
	}
	if err := c.removeBundle(); err != nil {
		s.cfg.Log.Warn("bundle of a failed create stays", "task", c.id, "err", err)
	}
	s.forget(c.id)
}

// Start starts the init process or an exec.
func (s *Service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	c, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	if r.ExecId == "" {
		err = c.start(ctx)
	} else {
		err = c.startExec(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	_, pid := p.state()
	return &taskapi.StartResponse{Pid: uint32(pid)}, nil
}

// Delete removes an ended container or exec after its output has been handed
// over.
func (s *Service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	c, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	if r.ExecId != "" {
		err = c.deleteExec(ctx, p)
	} else if err = c.delete(ctx); err == nil {
		s.oom.remove(r.Id)
		s.forget(r.Id)
	}
	if err != nil {
		return nil, err
	}
	_, pid := p.state()
	return &taskapi.DeleteResponse{
		Pid: uint32(pid), ExitStatus: uint32(p.exit.Code), ExitedAt: timestamppb.New(p.exit.At),
	}, nil
}

// Wait returns when the process has ended.
func (s *Service) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	_, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	e, err := p.wait(ctx)
	if err != nil {
		return nil, err
	}
	return &taskapi.WaitResponse{ExitStatus: uint32(e.Code), ExitedAt: timestamppb.New(e.At)}, nil
}

// State describes the init process or an exec.
func (s *Service) State(_ context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	c, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	resp := p.stateResponse()
	resp.Bundle = c.bundle
	return resp, nil
}

// Kill signals the init process or an exec, or with All the whole container.
func (s *Service) Kill(ctx context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	c, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	sig := unix.Signal(r.Signal)
	if r.All && r.ExecId == "" {
		return &emptypb.Empty{}, c.cgroup.signal(sig)
	}
	return &emptypb.Empty{}, p.signal(ctx, s.cfg.Reaper, sig)
}

// Exec adds a process to a container; Start runs it.
func (s *Service) Exec(_ context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	c, _, err := s.get(r.Id, "")
	if err != nil {
		return nil, err
	}
	if !validID(r.ExecId) {
		return nil, fmt.Errorf("exec id %q: %w", r.ExecId, errdefs.ErrInvalidArgument)
	}
	spec, err := execSpec(r.Spec.GetValue(), r.Terminal)
	if err != nil {
		return nil, err
	}
	p := newProcess(r.Id, r.ExecId, &processIO{
		terminal: r.Terminal, inName: r.Stdin, outName: r.Stdout, errName: r.Stderr,
	})
	if p.spec, err = c.execUser(spec); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, c.addExec(p)
}

// ResizePty sets the size of a process's terminal.
func (s *Service) ResizePty(_ context.Context, r *taskapi.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, p.resize(r.Width, r.Height)
}

// CloseIO ends a process's standard input behind what its stream carries.
func (s *Service) CloseIO(_ context.Context, r *taskapi.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.get(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.closeInput()
	}
	return &emptypb.Empty{}, nil
}
