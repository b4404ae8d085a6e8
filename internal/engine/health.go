// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
			case <-time.After(probeDelay(c.snapshot(), time.Now())):
			}
			if r := c.snapshot(); r.State.Running && !r.State.Paused {
				e.noteProbe(c, e.probe(c, r.Config))
			}
		}
	})
}

// startPeriodLeft is how much of its start period a container has left that was
// never healthy; 0 for any other.
func startPeriodLeft(r Record, now time.Time) time.Duration {
	if h := r.State.Health; h == nil || h.Status != container.Starting {
		return 0
	}
	return max(0, r.Config.Healthcheck.StartPeriod-now.Sub(r.State.StartedAt))
}

// probeDelay is how long the next probe waits: in the start period not beyond its
// end.
func probeDelay(r Record, now time.Time) time.Duration {
	h := r.Config.Healthcheck
	if left := startPeriodLeft(r, now); left > 0 {
		return min(left, orDefault(h.StartInterval, startInterval))
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
	result := &container.HealthcheckResult{Start: time.Now()}
	out, code, err := e.execOutput(e.ctx, c, args, orDefault(h.Timeout, probeTimeout))
	result.End, result.ExitCode, result.Output = time.Now(), code, out
	if err != nil {
		result.ExitCode = -1
		result.Output = err.Error()
	}
	return result
}

// execOutput runs a command in a container and returns its output, cut short,
// and its exit code. Once it has started it is given so much time, and then
// killed: the start of a process is the engine's affair, and not counted.
func (e *Engine) execOutput(ctx context.Context, c *Container, args []string, timeout time.Duration) (string, int, error) {
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
	running, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var out limited
	for {
		chunk, err := s.Client.Next(running)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
			defer cancel()
			return "", 0, errors.Join(exceeded(err, timeout, out.String()), e.tasks.Kill(kill, c.id, id, sigKill, false))
		}
		out.add(chunk.Data)
	}
	inspect, err := e.ExecInspect(id)
	if err != nil || inspect.ExitCode == nil {
		return out.String(), exitLost, err
	}
	return out.String(), *inspect.ExitCode, nil
}

// exceeded says that a probe took too long, in dockerd's words, with what it had
// printed.
func exceeded(err error, timeout time.Duration, out string) error {
	switch {
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	case out != "":
		return fmt.Errorf("Health check exceeded timeout (%v): %s", timeout, out) //nolint:staticcheck // dockerd's
	}
	return fmt.Errorf("Health check exceeded timeout (%v)", timeout) //nolint:staticcheck // dockerd's
}

// limited is the beginning of an output.
type limited struct {
	buf bytes.Buffer
	cut bool
}

func (l *limited) add(p []byte) {
	room := maxProbeOutput - l.buf.Len()
	l.cut = l.cut || len(p) > room
	l.buf.Write(p[:min(room, len(p))])
}

// String marks what was cut short.
func (l *limited) String() string {
	if l.cut {
		return l.buf.String() + "..."
	}
	return l.buf.String()
}

// noteProbe takes a result into the container's health.
func (e *Engine) noteProbe(c *Container, result *container.HealthcheckResult) {
	before, after := container.NoHealthcheck, container.NoHealthcheck
	c.note(func(r *Record) {
		if !r.State.Running || r.State.Health == nil {
			return
		}
		before = r.State.Health.Status
		r.State.Health = judge(*r, result)
		after = r.State.Health.Status
	})
	if before != after {
		e.publish(c, events.Action("health_status: "+string(after)), nil)
	}
}

// judge returns the health of a container after one more probe. One that began
// in the start period of a container that was never healthy fails nothing.
func judge(r Record, result *container.HealthcheckResult) *container.Health {
	h := *r.State.Health
	retries := r.Config.Healthcheck.Retries
	if retries <= 0 {
		retries = probeRetries
	}
	switch {
	case result.ExitCode == 0:
		h.Status, h.FailingStreak = container.Healthy, 0
	case startPeriodLeft(r, result.Start) > 0:
	default:
		if h.FailingStreak++; h.FailingStreak >= retries {
			h.Status = container.Unhealthy
		}
	}
	log := append([]*container.HealthcheckResult(nil), h.Log...)
	h.Log = append(log, result)
	h.Log = h.Log[max(0, len(h.Log)-maxProbeLog):]
	return &h
}
