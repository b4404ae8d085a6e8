// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guest/archive"
	"byre.dev/byre/internal/guest/task"
	"byre.dev/byre/internal/guestapi"
)

// ReadRoot packs a container's root file system, or what was changed in it, into
// the stream named.
func (s *session) ReadRoot(ctx context.Context, r *guestapi.RootRequest) (*guestapi.ArchiveResponse, error) {
	read, err := s.rootReader(r)
	if err != nil {
		return nil, err
	}
	defer read.Close()
	return s.onStream(ctx, r.Stream, func(c io.ReadWriter) error {
		if err := read.write(c); err != nil {
			return fmt.Errorf("pack root file system of container %s: %w", r.ContainerId, err)
		}
		return nil
	})
}

// rootReader packs what it holds open.
type rootReader struct {
	io.Closer
	write func(io.Writer) error
}

func (s *session) rootReader(r *guestapi.RootRequest) (rootReader, error) {
	if r.Changed {
		l, err := s.layer(r.ContainerId)
		if err != nil {
			return rootReader{}, err
		}
		return rootReader{l, l.Write}, nil
	}
	dir, err := s.mountedRoot(r.ContainerId)
	if err != nil {
		return rootReader{}, err
	}
	root, err := archive.OpenRoot(dir)
	if err != nil {
		return rootReader{}, fmt.Errorf("container %s: %w", r.ContainerId, err)
	}
	return rootReader{root, root.ReadAll}, nil
}

// mountedRoot returns where a container's root file system is mounted, without
// what its processes see mounted in it.
func (s *session) mountedRoot(id string) (string, error) {
	if _, err := s.tasks.RootDir(id); err != nil { // checks the name
		return "", err
	}
	return guestapi.ContainerDir(id) + "/rootfs", nil
}

func (s *session) layer(id string) (*archive.Layer, error) {
	dir, err := s.mountedRoot(id)
	if err != nil {
		return nil, err
	}
	upper, lower, ok := s.mounts.Overlay(dir)
	if !ok {
		return nil, fmt.Errorf("root file system of container %s has no layer of its own: %w", id, errdefs.ErrFailedPrecondition)
	}
	l, err := archive.OpenLayer(upper, lower)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	return l, nil
}

// Changes lists what a container has changed.
func (s *session) Changes(_ context.Context, r *guestapi.ChangesRequest, out guestapi.Guest_ChangesServer) error {
	l, err := s.layer(r.ContainerId)
	if err != nil {
		return err
	}
	defer l.Close()
	var batch []*guestapi.PathChange
	send := func() error {
		err := out.Send(&guestapi.ChangesResponse{Changes: batch})
		batch = nil
		return err
	}
	err = l.Changes(func(kind archive.ChangeKind, path string) error {
		batch = append(batch, &guestapi.PathChange{Kind: guestapi.PathChange_Kind(kind), Path: []byte(path)})
		if len(batch) < guestapi.MaxChanges {
			return nil
		}
		return send()
	})
	if err != nil {
		return fmt.Errorf("list changes of container %s: %w", r.ContainerId, err)
	}
	return send()
}

// LookupUser finds a user of a container that is not made yet.
func (s *session) LookupUser(_ context.Context, r *guestapi.UserRequest) (*guestapi.UserResponse, error) {
	dir, err := s.mountedRoot(r.ContainerId)
	if err != nil {
		return nil, err
	}
	uid, gid, err := task.LookupUser(r.Name, dir)
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", r.Name, err)
	}
	return &guestapi.UserResponse{Uid: uid, Gid: gid}, nil
}

// FillVolume copies what the image has into an empty volume.
func (s *session) FillVolume(_ context.Context, r *guestapi.FillRequest) (*guestapi.FillResponse, error) {
	dir, err := s.mountedRoot(r.ContainerId)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(path.Clean(r.Target), guestapi.RuntimeDir+"/") {
		return nil, fmt.Errorf("volume %q is not under %s: %w", r.Target, guestapi.RuntimeDir, errdefs.ErrInvalidArgument)
	}
	root, err := archive.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", r.ContainerId, err)
	}
	defer root.Close()
	filled, err := root.Fill(r.Path, path.Clean(r.Target), r.Replace)
	if err != nil {
		return nil, fmt.Errorf("fill volume at %s: %w", r.Path, err)
	}
	return &guestapi.FillResponse{Filled: filled}, nil
}

// Processes lists the processes of a container.
func (s *session) Processes(_ context.Context, r *guestapi.ProcessesRequest, out guestapi.Guest_ProcessesServer) error {
	if err := s.allowed("Processes"); err != nil { // streams pass no interceptor
		return toStatus(err)
	}
	return toStatus(s.tasks.Processes(r.ContainerId, out.Send))
}
