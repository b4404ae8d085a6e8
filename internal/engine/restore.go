// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine/stream"
	"byre.dev/byre/internal/engine/task"
)

// restore reads the containers and finds out what became of them. Containers
// are looked at side by side: each may mean a call to its shim.
func (e *Engine) restore(ctx context.Context) error {
	entries, err := os.ReadDir(e.path("containers"))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, entry := range entries {
		dir := e.path("containers", entry.Name())
		rec, err := readRecord(dir)
		if errors.Is(err, fs.ErrNotExist) {
			e.dropHalfMade(ctx, entry.Name(), dir)
			continue
		}
		if err != nil {
			// One damaged file must not keep the others from being found.
			e.log.Error("container not restored", "container", entry.Name(), "err", err)
			continue
		}
		c := newContainer(dir, rec, e.log)
		if err := e.containers.reserve(rec.Name, rec.ID); err != nil {
			e.log.Error("container's name is taken", "container", rec.ID, "err", err)
		}
		e.containers.add(c)
		wg.Go(func() { e.restoreOne(ctx, c) })
	}
	wg.Wait()
	if err := e.reconcileNetworks(ctx); err != nil {
		return err
	}
	// Not before: the endpoints of one that starts are not to be taken for left
	// overs.
	for _, c := range e.containers.all() {
		e.startByPolicy(c)
	}
	return nil
}

// dropHalfMade removes what a kill during a creation or a removal left.
func (e *Engine) dropHalfMade(ctx context.Context, id, dir string) {
	if err := errors.Join(e.tasks.Discard(ctx, id), os.RemoveAll(dir)); err != nil {
		e.log.Warn("rest of a container not removed", "container", short(id), "err", err)
	}
}

func (e *Engine) restoreOne(ctx context.Context, c *Container) {
	r := c.snapshot()
	if r.State.Removing {
		c.note(func(r *Record) { r.State.Removing, r.State.Running, r.State.Paused = false, false, false })
		e.tasks.Clean(ctx, c.id)
		e.removeRestored(ctx, c, RemoveOptions{Volumes: r.State.RemovingVolumes})
		return
	}
	st, err := e.tasks.Status(ctx, c.id)
	switch {
	case err == nil && (st.Running || st.Exit != nil) && r.State.Running && !r.State.Restarting:
		e.reattach(c, st)
	case r.State.Running:
		e.tasks.Clean(ctx, c.id)
		e.lost(ctx, c, err)
	default:
		// A kill between the creation of a task and its start, or between the
		// end of a run and its clearing away, leaves one, or its description.
		e.tasks.Clean(ctx, c.id)
		if r.Host.AutoRemove {
			e.removeRestored(ctx, c, RemoveOptions{Volumes: true})
		}
	}
}

// removeRestored removes a container whose removal was under way, or was to
// follow its end, when the daemon before was killed.
func (e *Engine) removeRestored(ctx context.Context, c *Container, opts RemoveOptions) {
	if err := e.remove(ctx, c, opts); err != nil {
		c.log.Error("container not removed", "err", err)
	}
}

// reattach follows a container that ran on while there was no daemon.
func (e *Engine) reattach(c *Container, st task.Status) {
	run := newRun()
	c.mu.Lock()
	c.current = run
	cfg, err := c.streamConfigLocked()
	if err == nil {
		c.hub, err = stream.Reopen(cfg)
	}
	if err != nil {
		c.hub = nil
		c.log.Error("streams not opened again", "err", err)
	} else {
		c.hub.Run()
	}
	if err := c.updateLocked(func(r *Record) { r.State.PID, r.State.Paused = st.PID, st.Paused }); err != nil {
		c.log.Error("container not saved", "err", err)
	}
	c.mu.Unlock()
	e.follow(c, run)
	e.watchHealth(c, run)
}

// lost notes that a container's machine went while nobody looked.
func (e *Engine) lost(ctx context.Context, c *Container, cause error) {
	restarting := c.snapshot().State.Restarting
	c.note(func(r *Record) {
		r.State.Running, r.State.Restarting, r.State.Paused, r.State.PID = false, false, false, 0
		if !restarting {
			r.State.ExitCode, r.State.Finished = exitLost, time.Now().UTC()
			r.State.Error = "the container's machine ended while the daemon did not run"
			if cause != nil && !errdefs.IsNotFound(cause) {
				r.State.Error += ": " + cause.Error()
			}
		}
		r.Connections = nil
	})
	if c.snapshot().Host.AutoRemove {
		e.removeRestored(ctx, c, RemoveOptions{Volumes: true})
	}
}

// startByPolicy starts a container whose policy says so after the daemon's
// start, in a goroutine of the engine's.
func (e *Engine) startByPolicy(c *Container) {
	r := c.snapshot()
	if r.State.Running {
		return
	}
	p := r.Host.RestartPolicy
	always := p.Name == container.RestartPolicyAlways && !r.State.StartedAt.IsZero()
	others := !r.Stopped && !r.State.StartedAt.IsZero() && policyRestarts(p, r.State.ExitCode, r.Restarts)
	if !always && !others {
		return
	}
	e.run.Go(func() {
		if err := e.Start(e.ctx, c.id); err != nil && !errdefs.IsNotModified(err) {
			c.log.Error("container not started by its policy", "err", err)
		}
	})
}

// daemonID reads or makes the engine's ID.
func daemonID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read engine's ID: %w", err)
	}
	raw := make([]byte, 16)
	// Read never fails (crypto/rand).
	_, _ = rand.Read(raw)
	s := hex.EncodeToString(raw)
	id := strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write engine's ID: %w", err)
	}
	return id, nil
}
