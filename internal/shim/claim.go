// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
)

// claim is the shim's sandbox in the making. It begins when the shim does, so
// that the machine runs by the time containerd asks for a container.
type claim struct {
	cfg      Config
	id       string
	bundle   string
	timeline *sandbox.Timeline
	log      *slog.Logger
	// onOOM and onReturned are sandbox.Config's.
	onOOM      func(string)
	onReturned func()
	// spare is the machine to take, nil for one to be started. It is start's.
	spare *sandbox.Spare

	// cancel ends the start; done is closed when it has succeeded or failed.
	cancel context.CancelFunc
	done   chan struct{}
	// The rest is set before done is closed.

	sb      *sandbox.Sandbox
	err     error
	private *privateSwitch

	closeOnce sync.Once
	closeErr  error
}

// begin starts to claim a sandbox for the bundle in dir.
func (c *claim) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.done = cancel, make(chan struct{})
	go func() { // close waits for it by done
		defer close(c.done)
		c.sb, c.err = c.start(ctx)
		if c.err != nil {
			c.log.Error("sandbox not started", "err", c.err)
		}
	}()
}

func (c *claim) start(ctx context.Context) (_ *sandbox.Sandbox, err error) {
	defer func() {
		if err != nil && c.spare != nil {
			err = errors.Join(err, c.spare.Close())
		}
	}()
	spec, settings, err := readBundle(c.bundle)
	if err != nil {
		return nil, err
	}
	end := c.timeline.Begin("driver")
	driver, scratch, err := c.cfg.Driver(c.log)
	end()
	if err != nil {
		return nil, err
	}
	network := settings.Network
	if network == nil {
		end := c.timeline.Begin("switch")
		c.private, err = newPrivateSwitch(c.bundle, c.id, spec.Hostname, c.log)
		end()
		if err != nil {
			return nil, err
		}
		network = c.private.network
	}
	sb, err := sandbox.Start(ctx, sandbox.Config{
		ID: c.id, Driver: driver, Spare: c.spare, Network: network, Hostname: spec.Hostname,
		CPUs: settings.CPUs, MaxMemory: settings.MaxMemory, Scratch: scratch,
		Dir: c.bundle, SidecarDir: c.cfg.SidecarDir, Watches: c.cfg.Watches, Build: c.cfg.Build,
		OnOOM: c.onOOM, OnReturned: c.onReturned, Timeline: c.timeline, Log: c.log,
	})
	if err != nil {
		return nil, errors.Join(err, c.private.close())
	}
	return sb, nil
}

// readBundle reads the specification that containerd put into a bundle.
func readBundle(dir string) (*specs.Spec, shimapi.Settings, error) {
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, shimapi.Settings{}, fmt.Errorf("read bundle: %w", err)
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(b, spec); err != nil {
		return nil, shimapi.Settings{}, fmt.Errorf("read bundle: %w", err)
	}
	settings, err := shimapi.ParseSettings(spec.Annotations)
	if err != nil {
		return nil, settings, fmt.Errorf("read bundle: %w", err)
	}
	return spec, settings, nil
}

// wait returns the sandbox once it runs, or why it does not.
func (c *claim) wait(ctx context.Context) (*sandbox.Sandbox, error) {
	select {
	case <-c.done:
		return c.sb, c.err
	case <-ctx.Done():
		return nil, fmt.Errorf("await sandbox %s: %w", c.id, ctx.Err())
	}
}

// ready returns the sandbox if it runs.
func (c *claim) ready() *sandbox.Sandbox {
	select {
	case <-c.done:
		return c.sb
	default:
		return nil
	}
}

// pid is what processes of the sandbox are to the host: the process that
// carries the machine, or ourselves where there is none. Pids of the guest mean
// nothing here, and a pid that another process has would mean the wrong thing.
func (c *claim) pid(sb *sandbox.Sandbox) uint32 {
	if pid := sb.Machine().Info().PID; pid > 0 {
		return uint32(pid)
	}
	return uint32(os.Getpid())
}

// close gives the sandbox up, started or not.
func (c *claim) close() error {
	c.closeOnce.Do(func() {
		c.cancel()
		<-c.done
		if c.sb != nil {
			c.closeErr = c.sb.Close()
		}
		c.closeErr = errors.Join(c.closeErr, c.private.close())
	})
	return c.closeErr
}
