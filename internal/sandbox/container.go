// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/guestapi"
)

// CreateConfig describes a container to be created.
type CreateConfig struct {
	ID string
	// Spec is the guest's specification with its shares: Convert's answer.
	Spec Converted
	// Root is how the root file system comes in.
	Root RootPlan
	// HostRoot, when not empty, is a directory of the host that holds the root
	// file system in the place of Root's disks. It is only read; what the
	// container writes goes to a scratch disk that ends with it.
	HostRoot string
	// Streams of the first process.
	Terminal              bool
	Stdin, Stdout, Stderr string
}

// Container is a container in a sandbox: its task is the Task service's, its
// disks, mounts and shares are here.
type Container struct {
	id      string
	sandbox *Sandbox
	// The rest is guarded by the sandbox's setup semaphore.

	disks  []*pluggedDisk
	shares []*share
	// volumes are those plugged into the machine; borrowed ones are shares.
	volumes []*heldVolume
	// sockets are names of sockets of the host.
	sockets []string
	// targets are mounts of the container's own, in the order they were made.
	targets []string
	// scratch is a disk image that ends with the container, empty for none.
	scratch string
	// shared says that it writes to more than its root file system: to shares and
	// volumes, which others read.
	shared bool
}

// ID returns the container's ID.
func (c *Container) ID() string { return c.id }

// Create attaches what a container needs, mounts it in the guest and creates
// its task there. It returns the process's pid in the guest. A Create that
// fails leaves the sandbox as it was.
func (s *Sandbox) Create(ctx context.Context, cfg CreateConfig) (_ *Container, pid uint32, err error) {
	c := &Container{id: cfg.ID, sandbox: s, shared: len(cfg.Spec.Shares)+len(cfg.Spec.Volumes) > 0}
	if err := s.register(c); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, createWait, errNotCreated)
	defer cancel()
	defer func() {
		if err != nil {
			err = s.explainCreate(ctx, err)
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
			defer cancel()
			if rerr := c.Release(undo); rerr != nil {
				s.log.Warn("container that was not created is not undone in full", "container", c.id, "err", rerr)
			}
		}
	}()
	if err := c.provide(ctx, cfg); err != nil {
		return nil, 0, fmt.Errorf("create container %s: %w", cfg.ID, err)
	}
	if err := s.networkReady(ctx); err != nil {
		return nil, 0, fmt.Errorf("create container %s: %w", cfg.ID, err)
	}
	defer s.cfg.Timeline.Begin("create")()
	pid, err = c.createTask(ctx, cfg)
	if err != nil {
		return nil, 0, err
	}
	return c, pid, nil
}

// createWait bounds all that the guest does for a container until it is created.
// It takes a fraction of a second; a host that is short of everything gets time.
const createWait = 2 * time.Minute

var errNotCreated = fmt.Errorf("the guest did not create the container within %v", createWait)

// explainCreate says why a creation failed, with the console's end when the
// guest did not answer in time or its machine has ended.
func (s *Sandbox) explainCreate(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errNotCreated) {
		return withConsole(fmt.Errorf("%w: %w", err, errNotCreated), s.machine)
	}
	return s.Explain(err)
}

func (s *Sandbox) register(c *Container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("sandbox %s is closed: %w", s.cfg.ID, errdefs.ErrUnavailable)
	}
	if s.containers[c.id] != nil {
		return fmt.Errorf("container %s: %w", c.id, errdefs.ErrAlreadyExists)
	}
	s.containers[c.id] = c
	return nil
}

// provide plugs disks and shares in and mounts them.
func (c *Container) provide(ctx context.Context, cfg CreateConfig) error {
	if err := c.sandbox.lockSetup(ctx); err != nil {
		return err
	}
	defer c.sandbox.unlockSetup()
	end := c.sandbox.cfg.Timeline.Begin("attach")
	mounts, err := c.attach(ctx, cfg)
	end()
	if err != nil {
		return err
	}
	defer c.sandbox.cfg.Timeline.Begin("mount")()
	if err := c.mount(ctx, mounts); err != nil {
		return err
	}
	c.follow()
	if err := c.fillShares(ctx); err != nil {
		return err
	}
	if err := c.attachVolumes(ctx, cfg.Spec.Volumes); err != nil {
		return err
	}
	if err := c.attachImages(ctx, cfg.Spec.Images); err != nil {
		return err
	}
	return c.bindSubpaths(ctx, cfg.Spec.Subpaths)
}

// attach plugs disks and shares in and returns the mounts that are still to be
// made.
func (c *Container) attach(ctx context.Context, cfg CreateConfig) ([]*guestapi.Mount, error) {
	mounts, err := c.attachRoot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	shares := cfg.Spec.Shares
	if namesOwner(shares) {
		if err := c.mount(ctx, mounts); err != nil {
			return nil, err
		}
		mounts, shares = nil, c.nameOwners(ctx, shares)
	}
	more, err := c.attachShares(ctx, shares)
	if err != nil {
		return nil, err
	}
	if o := cfg.Spec.SharedMemory; o != nil {
		more = append(more, &guestapi.Mount{
			Target: sharedMemoryDir(c.id), Source: &guestapi.Mount_Tmpfs{Tmpfs: &guestapi.Tmpfs{}}, Options: o,
		})
	}
	sockets, err := c.attachSockets(cfg.Spec.Sockets)
	return append(append(mounts, more...), sockets...), err
}

// mount has the guest mount what was attached.
func (c *Container) mount(ctx context.Context, mounts []*guestapi.Mount) error {
	if _, err := c.sandbox.link.guest.Mount(ctx, &guestapi.MountRequest{Mounts: mounts}); err != nil {
		return fmt.Errorf("mount in the guest: %w", err)
	}
	for _, d := range c.disks {
		d.mounted = true
	}
	own := guestapi.ContainerDir(c.id) + "/"
	for _, m := range mounts {
		if len(m.Target) > len(own) && m.Target[:len(own)] == own {
			c.targets = append(c.targets, m.Target)
		}
	}
	return nil
}

// attachRoot plugs the root file system's disks in and returns the mounts that
// make it.
func (c *Container) attachRoot(ctx context.Context, cfg CreateConfig) ([]*guestapi.Mount, error) {
	root := guestapi.ContainerDir(c.id) + "/rootfs"
	if cfg.HostRoot != "" {
		return c.attachHostRoot(ctx, cfg.HostRoot, root, len(cfg.Spec.Shares))
	}
	if len(cfg.Root.Disks) == 0 {
		return nil, fmt.Errorf("no root file system was given: %w", errdefs.ErrInvalidArgument)
	}
	var mounts []*guestapi.Mount
	points := make([]string, 0, len(cfg.Root.Disks))
	for _, r := range cfg.Root.Disks {
		d, m, err := c.attachDisk(ctx, r)
		if err != nil {
			return nil, err
		}
		points = append(points, d.point())
		mounts = append(mounts, m...)
	}
	stack, err := cfg.Root.StackMount(root, points)
	if err != nil {
		return nil, err
	}
	if cfg.Root.HostUpper != "" {
		more, err := c.attachUpper(ctx, cfg.Root.HostUpper, stack)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, more...)
	}
	return append(mounts, stack), nil
}

// attachUpper gives an overlay a scratch disk for its writes in the place of a
// directory of the host.
func (c *Container) attachUpper(ctx context.Context, dir string, stack *guestapi.Mount) ([]*guestapi.Mount, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("writable layer: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("writable layer %s has files, which a machine cannot stack on disk images: set default_size for the erofs snapshotter, so that it is an image, too: %w",
			dir, errdefs.ErrFailedPrecondition)
	}
	d, mounts, err := c.attachScratch(ctx)
	if err != nil {
		return nil, err
	}
	o := stack.GetOverlay()
	o.Upper, o.Work, stack.ReadOnly = d.point()+"/upper", d.point()+"/work", false
	return mounts, nil
}

// attachScratch plugs a disk in that takes what the container writes and ends
// with it.
func (c *Container) attachScratch(ctx context.Context) (*pluggedDisk, []*guestapi.Mount, error) {
	c.scratch = filepath.Join(c.sandbox.cfg.Dir, "scratch-"+c.id+".ext4")
	if err := os.Remove(c.scratch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("remove stale scratch disk: %w", err)
	}
	if err := c.sandbox.makeScratch(c.scratch, AnySize); err != nil {
		return nil, nil, err
	}
	return c.attachDisk(ctx, RootDisk{Path: c.scratch, FSType: "ext4"})
}

func (c *Container) attachDisk(ctx context.Context, r RootDisk) (*pluggedDisk, []*guestapi.Mount, error) {
	if err := c.sandbox.ensureDisk(r); err != nil {
		return nil, nil, err
	}
	d, err := c.sandbox.acquireDisk(ctx, r.Path, r.ReadOnly)
	if err != nil {
		return nil, nil, err
	}
	c.disks = append(c.disks, d)
	if d.mounted {
		return d, nil, nil
	}
	return d, []*guestapi.Mount{d.mount(r)}, nil
}

// ensureDisk makes an image that containerd left to whoever mounts it first.
func (s *Sandbox) ensureDisk(r RootDisk) error {
	if r.Size == 0 {
		return nil
	}
	if _, err := os.Stat(r.Path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.makeScratch(r.Path, r.Size)
}

func (s *Sandbox) makeScratch(path string, size int64) error {
	if s.cfg.Scratch == "" {
		return fmt.Errorf("make scratch disk %s: the guest image has no template", path)
	}
	if size == AnySize {
		size = 0
	}
	if err := disk.Scratch(path, s.cfg.Scratch, size); err != nil {
		return fmt.Errorf("make scratch disk %s: %w", path, err)
	}
	return nil
}

// attachHostRoot shares a directory read-only and lays a scratch disk over it.
func (c *Container) attachHostRoot(ctx context.Context, dir, root string, index int) ([]*guestapi.Mount, error) {
	shared, err := c.attachShares(ctx, []ShareSpec{{
		Index: index, Source: dir, Dest: "/", ReadOnly: true, Cache: CacheLoose, Static: true,
	}})
	if err != nil {
		return nil, err
	}
	d, mounts, err := c.attachScratch(ctx)
	if err != nil {
		return nil, err
	}
	overlay := &guestapi.Mount{Target: root, Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{
		Lower: []string{shareDir(c.id, index)}, Upper: d.point() + "/upper", Work: d.point() + "/work",
	}}}
	return append(append(shared, mounts...), overlay), nil
}

func (c *Container) createTask(ctx context.Context, cfg CreateConfig) (uint32, error) {
	spec, err := json.Marshal(cfg.Spec.Spec)
	if err != nil {
		return 0, fmt.Errorf("create container %s: encode specification: %w", c.id, err)
	}
	options, err := typeurl.MarshalAnyToProto(&guestapi.CreateOptions{Spec: spec})
	if err != nil {
		return 0, fmt.Errorf("create container %s: encode options: %w", c.id, err)
	}
	r, err := c.sandbox.link.task.Create(ctx, &taskapi.CreateTaskRequest{
		ID: c.id, Bundle: guestapi.ContainerDir(c.id), Terminal: cfg.Terminal,
		Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr, Options: options,
	})
	if err != nil {
		return 0, err
	}
	return r.GetPid(), nil
}

// EncodeProcess is what an exec sends: the process, made for the guest.
func EncodeProcess(p *specs.Process) ([]byte, []string, error) {
	dropped, err := ConvertProcess(p)
	if err != nil {
		return nil, nil, err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, nil, fmt.Errorf("encode process: %w", err)
	}
	return b, dropped, nil
}
