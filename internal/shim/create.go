// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	eventsapi "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/sandbox"
)

// Create makes a container in the sandbox, its first process waiting for Start.
func (s *Service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	if r.GetCheckpoint() != "" || r.GetParentCheckpoint() != "" {
		return nil, toStatus(fmt.Errorf("checkpoint %s: containers in a machine cannot be restored: %w", r.GetCheckpoint(), errdefs.ErrNotImplemented))
	}
	if err := s.reserve(r.GetID()); err != nil {
		return nil, toStatus(err)
	}
	c, err := s.create(ctx, r)
	s.mu.Lock()
	if err != nil {
		delete(s.containers, r.GetID())
	} else {
		s.containers[r.GetID()] = c
	}
	s.mu.Unlock()
	if err != nil {
		s.exitIfDone()
		s.log.Error("container not created", "task", r.GetID(), "err", err)
		return nil, toStatus(err)
	}
	pid := c.init.state().GetPid()
	s.events.publish(&eventsapi.TaskCreate{
		ContainerID: r.GetID(), Bundle: r.GetBundle(), Rootfs: r.GetRootfs(), Pid: pid, Checkpoint: r.GetCheckpoint(),
		IO: &eventsapi.TaskIO{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal()},
	})
	return &taskapi.CreateTaskResponse{Pid: pid}, nil
}

// reserve takes the container's ID.
func (s *Service) reserve(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.containers[id]; taken {
		return fmt.Errorf("container %s: %w", id, errdefs.ErrAlreadyExists)
	}
	s.containers[id] = nil
	s.used = true
	return nil
}

func (s *Service) create(ctx context.Context, r *taskapi.CreateTaskRequest) (_ *container, err error) {
	converted, err := s.convert(r)
	if err != nil {
		return nil, err
	}
	sb, err := s.claim.wait(ctx)
	if err != nil {
		return nil, err
	}
	p := newProcess(r.GetID(), "", r.GetBundle(), stdio{
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal(),
	})
	links, err := countLinks(s.claim.pid(sb))
	if err != nil {
		return nil, err
	}
	c := &container{init: p, execs: map[string]*process{}, links: links}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.undo())
		}
	}()
	cfg, err := c.rootConfig(r.GetRootfs(), filepath.Join(r.GetBundle(), "rootfs"))
	if err != nil {
		return nil, err
	}
	names := guestStreams(p)
	cfg.ID, cfg.Spec, cfg.Terminal = r.GetID(), converted, r.GetTerminal()
	cfg.Stdin, cfg.Stdout, cfg.Stderr = names[0], names[1], names[2]
	opened := make(chan error, 1)
	go func() { // received below; the guest's create waits for the streams
		st, err := openStreams(ctx, sb, p.streamPrefix(), p.stdio, logContext{r.GetID(), s.namespace}, s.log)
		if err == nil {
			p.setStreams(st)
		}
		opened <- err
	}()
	c.box, _, err = sb.Create(ctx, cfg)
	if openErr := <-opened; openErr != nil {
		err = errors.Join(openErr, err)
	}
	if err != nil {
		return nil, err
	}
	p.setPID(s.claim.pid(sb))
	s.watch(sb, p)
	return c, nil
}

// undo releases what a container that was not created has.
func (c *container) undo() error {
	if st := c.init.takeStreams(); st != nil {
		st.abandon()
		st.release()
	}
	if c.rootfs != nil {
		return c.rootfs()
	}
	return nil
}

// convert makes the guest's specification.
func (s *Service) convert(r *taskapi.CreateTaskRequest) (sandbox.Converted, error) {
	spec, settings, err := readBundle(r.GetBundle())
	if err != nil {
		return sandbox.Converted{}, err
	}
	converted, err := sandbox.Convert(sandbox.ConvertInput{
		ID: r.GetID(), Spec: spec, Settings: settings, Private: settings.Network == nil, Inspect: inspect,
	})
	if err != nil {
		return converted, fmt.Errorf("create container %s: %w: %w", r.GetID(), err, errdefs.ErrInvalidArgument)
	}
	for _, d := range converted.Dropped {
		s.log.Debug("left out of the guest's specification", "task", r.GetID(), "reason", d)
	}
	return converted, nil
}

// rootConfig says how the root file system comes in: as disks where containerd
// hands images over, else as a directory, onto which mounts of the host are
// made first where there are any.
func (c *container) rootConfig(mounts []*types.Mount, rootfs string) (cfg sandbox.CreateConfig, err error) {
	if cfg.Root, err = sandbox.PlanRoot(mounts); err != nil {
		return cfg, err
	}
	if len(cfg.Root.Disks) > 0 {
		return cfg, nil
	}
	if len(mounts) == 0 {
		spec, _, err := readBundle(filepath.Dir(rootfs))
		if err != nil {
			return cfg, err
		}
		cfg.HostRoot = rootfs
		if spec.Root != nil && filepath.IsAbs(spec.Root.Path) {
			cfg.HostRoot = spec.Root.Path
		}
		return cfg, nil
	}
	cfg.HostRoot, c.rootfs, err = hostRoot(cfg.Root.Host, rootfs)
	return cfg, err
}

// bindSource is the directory that a single bind mount shows: it needs no mount
// of the host's to be shared.
func bindSource(mounts []*types.Mount) string {
	if len(mounts) == 1 && mounts[0].GetType() == "bind" {
		return mounts[0].GetSource()
	}
	return ""
}
