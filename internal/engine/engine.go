// SPDX-License-Identifier: Apache-2.0

// Package engine is what the Docker API talks about: containers, their logs and
// streams, images, volumes, networks and events, over an embedded containerd
// whose shims run the machines.
//
// State is in files: one JSON file for each container, written atomically, so
// that a daemon that was killed at any time starts with what it told its
// clients. What runs, runs in shims and switch processes, which outlive the
// daemon; New finds them again.
//
// Lock order: Container.op, then Container.mu, then catalog.mu. Container.op
// serialises what changes a container and is held across I/O to its guest; it
// belongs to one container. No lock is held for more than one container, and
// none of the others is held across I/O to a guest.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/moby/moby/api/types/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine/event"
	"byre.dev/byre/internal/engine/image"
	"byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/engine/task"
	"byre.dev/byre/internal/engine/volume"
)

const (
	// defaultNamespace is containerd's, of what the Docker API shows.
	defaultNamespace = "byre"
	// snapshotter is the name of byre's own.
	snapshotter = "byre"
)

// Config is what an Engine needs.
type Config struct {
	// Home is the state directory.
	Home string
	// Containerd is the embedded containerd.
	Containerd *containerd.Client
	// Namespace is containerd's, which keeps the objects of engines apart that
	// share one; "" means the namespace of the Docker API's engine.
	Namespace string
	// NetworkCommand is the argv that runs a network's switch process; the
	// network's directory is appended.
	NetworkCommand []string
	// Socket is the file of the daemon's socket, as localsock takes it. A bind
	// mount of it gives a container the daemon. Empty for none.
	Socket string
	// ShimState is containerd's state directory of the runtime, where the
	// bundles are: a shim's address is found there.
	ShimState string
	// ScratchTemplate is the ext4 image that volumes which are disks are copied
	// from.
	ScratchTemplate string
	// Starting, when not nil, is called when a container is about to start, and
	// what it returns when it runs or has failed to.
	Starting func() (done func())
	// Build says what program this is.
	Build Build
	// Log receives state changes and what could not be returned; nil
	// discards them.
	Log *slog.Logger
}

// Build describes the program, for version and info.
type Build struct {
	// Version is byre's version; Commit and Time those of its source.
	Version, Commit, Time string
	// Kernel is the release of the guest's kernel, "" where it is not known.
	Kernel string
	// Driver is the driver of machines and its acceleration, for example
	// "qemu (tcg)".
	Driver string
}

// Engine is the whole of it. Its methods are safe for concurrent use.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	id   string
	born time.Time

	// Images, Volumes, Networks and Events are served to the API as they are.
	Images   *image.Store
	Volumes  *volume.Manager
	Networks *network.Manager
	Events   *event.Broker

	tasks      *task.Runner
	containers *catalog
	claims     claims
	execs      *execTable
	// starts is passed by whatever starts a machine for a container.
	starts gate

	// ctx ends when the engine closes; run bounds the goroutines that follow
	// containers.
	ctx    context.Context
	cancel context.CancelFunc
	run    sync.WaitGroup
}

// New opens the engine on its state directory: containers are restored, those
// that run are followed again, those that ended meanwhile get their exit
// codes. ctx bounds the opening.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	e := &Engine{cfg: cfg, log: cfg.Log, born: time.Now(), Events: &event.Broker{}, starts: newGate(startsAtOnce())}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.cfg.Namespace == "" {
		e.cfg.Namespace = defaultNamespace
	}
	for _, dir := range []string{"containers", "networks", "volumes"} {
		if err := os.MkdirAll(e.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("open engine: %w", err)
		}
	}
	if err := e.open(ctx); err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	e.ctx, e.cancel = context.WithCancel(e.Context(context.WithoutCancel(ctx)))
	if err := e.restore(e.Context(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("restore containers: %w", err), e.Close(ctx))
	}
	return e, nil
}

func (e *Engine) open(ctx context.Context) (err error) {
	if e.id, err = daemonID(e.path("engine-id")); err != nil {
		return err
	}
	if e.Volumes, err = volume.Open(e.path("volumes"), e.cfg.ScratchTemplate); err != nil {
		return err
	}
	e.Networks, err = network.Open(ctx, network.Config{Dir: e.path("networks"), Command: e.cfg.NetworkCommand, Log: e.log})
	if err != nil {
		return err
	}
	e.tasks = task.NewRunner(e.cfg.Containerd, snapshotter)
	e.containers = newCatalog()
	e.execs = newExecTable()
	e.Images = image.New(image.Config{
		Client: e.cfg.Containerd, Snapshotter: snapshotter, Platform: e.Platform(),
		Events: e.Events, Uses: e.imageUses, Log: e.log,
	})
	return nil
}

// Context returns ctx with what the embedded containerd needs in it.
func (e *Engine) Context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, e.cfg.Namespace)
}

// Platform is what containers run on.
func (e *Engine) Platform() ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

func (e *Engine) path(names ...string) string {
	return filepath.Join(append([]string{e.cfg.Home}, names...)...)
}

// Close stops following the containers, which go on running, and writes what is
// left of their logs. ctx bounds the wait.
func (e *Engine) Close(ctx context.Context) error {
	e.cancel()
	done := make(chan struct{})
	go func() { // ends with the goroutines that Close waits for
		e.run.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("close engine: %w", ctx.Err())
	}
	var errs []error
	for _, c := range e.containers.all() {
		errs = append(errs, c.closeStreams())
	}
	return errors.Join(append(errs, e.Networks.Close())...)
}

// imageUses tells the images which containers were made from them.
func (e *Engine) imageUses() []image.Use {
	var uses []image.Use
	for _, c := range e.containers.all() {
		r := c.snapshot()
		uses = append(uses, image.Use{Container: r.ID, Image: r.Image, Running: r.State.Running})
		for _, m := range r.Mounts {
			if m.Type == mount.TypeImage && m.Source != r.Image {
				uses = append(uses, image.Use{Container: r.ID, Image: m.Source, Running: r.State.Running})
			}
		}
	}
	return uses
}
