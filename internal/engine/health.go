// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// Docker's defaults of health checks.
const (
	probeInterval = 30 * time.Second
	probeTimeout  = 30 * time.Second
	startInterval = 5 * time.Second
	probeRetries  = 3
	// maxProbeOutput and maxProbeLog bound what is kept of probes.
	maxProbeOutput = 4 << 10
	maxProbeLog    = 5
)

func hasHealthcheck(cfg *container.Config) bool {
	h := cfg.Healthcheck
	return h != nil && len(h.Test) > 1 && h.Test[0] != "NONE"
}

// watchHealth probes a container for as long as the run lasts, in a goroutine
// of the engine's.
func (e *Engine) watchHealth(c *Container, run *run) {
	r := c.snapshot()
	if !hasHealthcheck(r.Config) {
		return
	}
	e.run.Go(func() {
		for {
			select {
			case <-e.ctx.Done():
				return
			case <-run.cleared:
				return
			case <-time.After(probeDelay(c.snapshot())):
			}
			if r := c.snapshot(); r.State.Running && !r.State.Paused {
				e.noteProbe(c, e.probe(c, r.Config))
			}
		}
	})
}

// starting says whether a container is in its start period.
func inStartPeriod(r Record) bool {
	return r.State.Health != nil && r.State.Health.Status == container.Starting &&
		time.Since(r.State.StartedAt) < r.Config.Healthcheck.StartPeriod
}

func probeDelay(r Record) time.Duration {
	h := r.Config.Healthcheck
	if inStartPeriod(r) {
		return orDefault(h.StartInterval, startInterval)
	}
	return orDefault(h.Interval, probeInterval)
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// probe runs the check in the container.
func (e *Engine) probe(c *Container, cfg *container.Config) *container.HealthcheckResult {
	h := cfg.Healthcheck
	args := h.Test[1:]
	if h.Test[0] == "CMD-SHELL" {
		shell := cfg.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		args = append(append([]string(nil), shell...), args...)
	}
	timeout := orDefault(h.Timeout, probeTimeout)
	ctx, cancel := context.WithTimeout(e.ctx, timeout)
	defer cancel()
	result := &container.HealthcheckResult{Start: time.Now()}
	out, code, err := e.execOutput(ctx, c, args)
	result.End, result.ExitCode, result.Output = time.Now(), code, out
	if err != nil {
		result.ExitCode = -1
		result.Output = err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			result.Output = "Health check exceeded timeout (" + timeout.String() + ")"
			if out != "" {
				result.Output += ": " + out
			}
		}
	}
	return result
}

// execOutput runs a command in a container and returns its output, cut short,
// and its exit code. At the end of ctx the command is killed.
func (e *Engine) execOutput(ctx context.Context, c *Container, args []string) (string, int, error) {
	id, err := e.ExecCreate(ctx, c.id, container.ExecCreateRequest{Cmd: args, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", 0, err
	}
	s, err := e.ExecStart(ctx, id, container.ExecStartRequest{})
	if err != nil {
		return "", 0, err
	}
	defer s.Close()
	if err := s.Started(ctx); err != nil {
		return "", 0, err
	}
	var out bytes.Buffer
	for {
		chunk, err := s.Client.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
			defer cancel()
			return out.String(), 0, errors.Join(err, e.tasks.Kill(kill, c.id, id, sigKill, false))
		}
		if room := maxProbeOutput - out.Len(); room > 0 {
			out.Write(chunk.Data[:min(room, len(chunk.Data))])
		}
	}
	inspect, err := e.ExecInspect(id)
	if err != nil || inspect.ExitCode == nil {
		return out.String(), exitLost, err
	}
	return out.String(), *inspect.ExitCode, nil
}

// noteProbe takes a result into the container's health.
func (e *Engine) noteProbe(c *Container, result *container.HealthcheckResult) {
	before, after := container.NoHealthcheck, container.NoHealthcheck
	c.note(func(r *Record) {
		if !r.State.Running || r.State.Health == nil {
			return
		}
		h := *r.State.Health
		before = h.Status
		retries := r.Config.Healthcheck.Retries
		if retries <= 0 {
			retries = probeRetries
		}
		switch {
		case result.ExitCode == 0:
			h.Status, h.FailingStreak = container.Healthy, 0
		case inStartPeriod(*r):
		default:
			if h.FailingStreak++; h.FailingStreak >= retries {
				h.Status = container.Unhealthy
			}
		}
		log := append([]*container.HealthcheckResult(nil), h.Log...)
		h.Log = append(log, result)
		h.Log = h.Log[max(0, len(h.Log)-maxProbeLog):]
		after = h.Status
		r.State.Health = &h
	})
	if before != after {
		e.publish(c, events.Action("health_status: "+string(after)), nil)
	}
}
