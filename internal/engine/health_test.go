// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

// probed is a container that was started so long ago.
func probed(ago time.Duration, status container.HealthStatus, streak int) Record {
	return Record{
		Config: &container.Config{Healthcheck: &container.HealthConfig{
			Interval: time.Minute, StartPeriod: 10 * time.Second, StartInterval: 4 * time.Second, Retries: 2,
		}},
		State: State{Running: true, StartedAt: time.Now().Add(-ago), Health: &container.Health{Status: status, FailingStreak: streak}},
	}
}

func TestProbesAreJudgedAsDockerdDoes(t *testing.T) {
	for name, c := range map[string]struct {
		in     Record
		code   int
		began  time.Duration // before now
		status container.HealthStatus
		streak int
	}{
		"the first success":                       {probed(time.Second, container.Starting, 0), 0, 0, container.Healthy, 0},
		"a failure in the start period":           {probed(time.Second, container.Starting, 0), 1, 0, container.Starting, 0},
		"one that began in it and ended after it": {probed(11*time.Second, container.Starting, 0), 1, 2 * time.Second, container.Starting, 0},
		"a failure in it of one that was healthy": {probed(time.Second, container.Healthy, 0), 1, 0, container.Healthy, 1},
		"a failure after it":                      {probed(time.Minute, container.Starting, 0), 1, 0, container.Starting, 1},
		"as many failures as are tried":           {probed(time.Minute, container.Healthy, 1), -1, 0, container.Unhealthy, 2},
		"one more":                                {probed(time.Minute, container.Unhealthy, 2), 1, 0, container.Unhealthy, 3},
		"a success of what was unhealthy":         {probed(time.Minute, container.Unhealthy, 7), 0, 0, container.Healthy, 0},
	} {
		got := judge(c.in, &container.HealthcheckResult{ExitCode: c.code, Start: time.Now().Add(-c.began)})
		if got.Status != c.status || got.FailingStreak != c.streak || len(got.Log) != 1 {
			t.Errorf("%s: %s after %d failures, want %s after %d", name, got.Status, got.FailingStreak, c.status, c.streak)
		}
	}
	r := probed(0, container.Healthy, 0)
	for range 9 {
		r.State.Health = judge(r, &container.HealthcheckResult{})
	}
	if n := len(r.State.Health.Log); n != maxProbeLog {
		t.Errorf("%d results are kept, want %d", n, maxProbeLog)
	}
}

func TestProbesAreCloserInTheStartPeriodAndNotBeyondIt(t *testing.T) {
	for name, c := range map[string]struct {
		in   Record
		want time.Duration
	}{
		"at first":              {probed(0, container.Starting, 0), 4 * time.Second},
		"near the period's end": {probed(7*time.Second, container.Starting, 0), 3 * time.Second},
		"after it":              {probed(11*time.Second, container.Starting, 0), time.Minute},
		"of what is healthy":    {probed(0, container.Healthy, 0), time.Minute},
	} {
		got := probeDelay(c.in, time.Now())
		if d := got - c.want; d < -time.Second || d > time.Second {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestWhatAProbePrintsIsCutShortAndSaysSo(t *testing.T) {
	var l limited
	l.add([]byte(strings.Repeat("x", maxProbeOutput)))
	if got := l.String(); len(got) != maxProbeOutput {
		t.Errorf("%d bytes, want %d", len(got), maxProbeOutput)
	}
	l.add([]byte("y"))
	if got := l.String(); len(got) != maxProbeOutput+3 || !strings.HasSuffix(got, "x...") {
		t.Errorf("%d bytes that end in %q", len(got), got[len(got)-4:])
	}
}
