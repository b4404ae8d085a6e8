// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

var _ guestapi.GuestService = (*session)(nil)

// Hello agrees on the version.
func (s *session) Hello(_ context.Context, r *guestapi.HelloRequest) (*guestapi.HelloResponse, error) {
	if r.Version != guestapi.Version {
		return nil, fmt.Errorf("the host speaks version %d (build %q), the guest version %d (build %q): %w",
			r.Version, r.Build, guestapi.Version, s.cfg.Build, errdefs.ErrFailedPrecondition)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("read kernel release: %w", err)
	}
	s.greeted.Store(true)
	_, renewed := s.identity()
	return &guestapi.HelloResponse{
		Version: guestapi.Version, Build: s.cfg.Build, Kernel: unix.ByteSliceToString(u.Release[:]),
		Features: s.cfg.Features, NeedsRenewal: !renewed,
	}, nil
}

// Mount makes mounts.
func (s *session) Mount(ctx context.Context, r *guestapi.MountRequest) (*guestapi.MountResponse, error) {
	return &guestapi.MountResponse{}, s.mounts.Mount(ctx, r.Mounts)
}

// Unmount undoes mounts.
func (s *session) Unmount(ctx context.Context, r *guestapi.UnmountRequest) (*guestapi.UnmountResponse, error) {
	return &guestapi.UnmountResponse{}, s.mounts.Unmount(ctx, r.Targets, r.Sync)
}

// Replay repeats the host's changes to a share.
func (s *session) Replay(_ context.Context, r *guestapi.ReplayRequest) (*guestapi.ReplayResponse, error) {
	errnos, err := s.mounts.Replay(r.Target, r.Changes)
	return &guestapi.ReplayResponse{Errnos: errnos}, err
}

// ConfigureNetwork sets up links, addresses, routes and files.
func (s *session) ConfigureNetwork(ctx context.Context, r *guestapi.NetworkRequest) (*guestapi.NetworkResponse, error) {
	return &guestapi.NetworkResponse{}, s.cfg.Cards.Configure(ctx, r)
}

// WriteFile writes a small file below guestapi.RuntimeDir. A file that exists
// is rewritten in place: a container may have it bound in.
func (s *session) WriteFile(_ context.Context, r *guestapi.WriteFileRequest) (*guestapi.WriteFileResponse, error) {
	if !filepath.IsLocal(r.Name) {
		return nil, fmt.Errorf("file name %q leads out of %s: %w", r.Name, guestapi.RuntimeDir, errdefs.ErrInvalidArgument)
	}
	root, err := os.OpenRoot(guestapi.RuntimeDir)
	if err != nil {
		return nil, fmt.Errorf("write file %s: %w", r.Name, err)
	}
	defer root.Close()
	if err := root.MkdirAll(path.Dir(r.Name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write file %s: %w", r.Name, err)
	}
	mode := fs.FileMode(r.Mode & 0o777)
	if mode == 0 {
		mode = 0o644
	}
	if err := root.WriteFile(r.Name, r.Data, mode); err != nil {
		return nil, fmt.Errorf("write file %s: %w", r.Name, err)
	}
	return &guestapi.WriteFileResponse{}, nil
}

// Memory reports the machine's memory. The host asks after it has changed it, so
// this is where the containers' soft limit follows.
func (s *session) Memory(context.Context, *guestapi.MemoryRequest) (*guestapi.MemoryResponse, error) {
	m, err := readMemory()
	if err != nil {
		return nil, err
	}
	return m, s.memory.follow(m)
}

func readMemory() (*guestapi.MemoryResponse, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read memory: %w", err)
	}
	m := &guestapi.MemoryResponse{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			m.Total = kib << 10
		case "MemAvailable:":
			m.Available = kib << 10
		case "MemFree:":
			m.Free = kib << 10
		}
	}
	return m, nil
}

// Events streams events until the host or the link ends the call.
func (s *session) Events(ctx context.Context, _ *guestapi.EventsRequest, stream guestapi.Guest_EventsServer) error {
	if err := s.allowed("Events"); err != nil { // streams pass no interceptor
		return toStatus(err)
	}
	events, cancel := s.events.subscribe()
	defer cancel()
	for {
		select {
		case e := <-events:
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// PowerOff stops everything in order, answers, and turns the machine off.
func (s *session) PowerOff(_ context.Context, r *guestapi.PowerOffRequest) (*guestapi.PowerOffResponse, error) {
	err := s.StopAll(time.Duration(r.GraceMs) * time.Millisecond)
	if err != nil {
		s.cfg.Log.Warn("the machine did not stop in order", "err", err)
	}
	// The answer leaves with the handler's return; the delay lets it reach the
	// host. Nothing waits for the timer: the machine ends with it.
	time.AfterFunc(offDelay, s.cfg.Off)
	return &guestapi.PowerOffResponse{}, nil
}

// offDelay is the time between the answer to PowerOff and the machine's end.
const offDelay = 20 * time.Millisecond
