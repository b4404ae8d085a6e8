// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/engine/logs"
	"byre.dev/byre/internal/engine/stream"
)

// Container is one container.
type Container struct {
	id  string
	dir string
	log *slog.Logger

	// op is held by who changes what the container does: start, removal,
	// pause, the clearing away after an exit. It holds one token.
	op chan struct{}

	// mu guards what follows. It is never held across I/O to the guest.
	mu  sync.Mutex
	rec Record
	// hub carries the streams of the current run, or of the next one when a
	// client attached before the start. Nil when neither is there.
	hub *stream.Hub
	// stdinEnded says that the hub's standard input was ended by its client.
	stdinEnded bool
	logFile    *logs.File
	// current is the run under way, nil when there is none.
	current *run
	// changed is closed and replaced at every change that waiters look for.
	changed chan struct{}
	// exits counts the runs that ended; gone is set when it was removed.
	exits int
	gone  bool
	// noRestart is closed when a user ends a wait for a restart.
	noRestart chan struct{}
	// keep holds off the removal of a --rm container that a user restarts.
	keep bool
}

// run is one run of a container, from its start until all of it is cleared
// away.
type run struct {
	// over is closed when the end of its process has been noted.
	over chan struct{}
	// cleared is closed when the task, the network and the streams are gone.
	cleared chan struct{}
}

func newRun() *run { return &run{over: make(chan struct{}), cleared: make(chan struct{})} }

func (r *run) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// awaitOver waits for the end; a negative limit means for ever.
func (r *run) awaitOver(ctx context.Context, limit time.Duration) bool {
	var late <-chan time.Time
	if limit >= 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-r.over:
		return true
	case <-late:
	case <-ctx.Done():
	}
	return r.isOver()
}

func newContainer(dir string, rec Record, log *slog.Logger) *Container {
	return &Container{
		id: rec.ID, dir: dir, rec: rec, log: log.With("container", short(rec.ID)),
		op: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

func short(id string) string { return id[:min(12, len(id))] }

// lock takes the container's op; unlock gives it back.
func (c *Container) lock(ctx context.Context) error {
	select {
	case c.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("container %s is busy: %w", short(c.id), context.Cause(ctx))
	}
}

func (c *Container) unlock() { <-c.op }

// held finds a container and waits for its op, which the caller gives up by
// unlock.
func (e *Engine) held(ctx context.Context, ref string) (*Container, error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, err
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// snapshot returns what is known of the container at present.
func (c *Container) snapshot() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.clone()
}

// update changes the record, saves it and wakes the waiters. A container that
// was removed is not written again.
func (c *Container) update(change func(*Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.updateLocked(change)
}

func (c *Container) updateLocked(change func(*Record)) error {
	change(&c.rec)
	c.wakeLocked()
	if c.gone {
		return nil
	}
	return writeRecord(c.dir, c.rec)
}

// note is update where nobody can be told of an error.
func (c *Container) note(change func(*Record)) {
	if err := c.update(change); err != nil {
		c.log.Error("container not saved", "err", err)
	}
}

// touch notes that the container's root is about to be opened.
func (c *Container) touch() error {
	if !c.snapshot().Untouched {
		return nil
	}
	return c.update(func(r *Record) { r.Untouched = false })
}

func (c *Container) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// running returns the run under way, with an error in Docker's words when there
// is none.
func (c *Container) running() (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || !c.rec.State.Running {
		return nil, errNotRunning(c.id)
	}
	return c.current, nil
}

func (c *Container) logPath() string { return filepath.Join(c.dir, c.id+"-json.log") }

// streams returns the hub of the current or the next run; it is made when there
// is none.
func (c *Container) streams() (*stream.Hub, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streamsLocked()
}

func (c *Container) streamsLocked() (*stream.Hub, error) {
	if c.hub != nil {
		return c.hub, nil
	}
	if c.gone || c.rec.State.Removing {
		return nil, errdefs.ErrConflict.WithMessage("container " + c.id + " is marked for removal")
	}
	cfg, err := c.streamConfigLocked()
	if err != nil {
		return nil, err
	}
	hub, err := stream.Create(cfg)
	if err != nil {
		return nil, err
	}
	c.hub, c.stdinEnded = hub, false
	return hub, nil
}

// streamConfigLocked opens the log and says how the streams go.
func (c *Container) streamConfigLocked() (stream.Config, error) {
	cfg := stream.Config{
		Dir: c.dir, Name: "init", Terminal: c.rec.Config.Tty, Stdin: c.rec.Config.OpenStdin, Logger: c.log,
	}
	if c.rec.Host.LogConfig.Type == "none" {
		return cfg, nil
	}
	if c.logFile == nil {
		opts, err := logOptions(c.rec.Host.LogConfig)
		if err != nil {
			return cfg, err
		}
		if c.logFile, err = logs.Open(c.logPath(), opts); err != nil {
			return cfg, err
		}
	}
	cfg.Sink = c.logFile
	return cfg, nil
}

// closeStreams ends the streams and the log of a run; clients get what is in
// their queues.
func (c *Container) closeStreams() error {
	c.mu.Lock()
	hub, file := c.hub, c.logFile
	c.hub, c.logFile = nil, nil
	c.mu.Unlock()
	var errs []error
	if hub != nil {
		errs = append(errs, hub.Close())
	}
	if file != nil {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}
