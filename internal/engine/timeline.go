// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"strings"
	"time"
)

// timeline measures the stages of a start.
type timeline struct {
	begin, last time.Time
	parts       []string
}

func newTimeline() *timeline {
	now := time.Now()
	return &timeline{begin: now, last: now}
}

// mark ends a stage.
func (t *timeline) mark(stage string) {
	now := time.Now()
	t.parts = append(t.parts, fmt.Sprintf("%s=%s", stage, now.Sub(t.last).Round(100*time.Microsecond)))
	t.last = now
}

func (t *timeline) total() time.Duration { return time.Since(t.begin).Round(100 * time.Microsecond) }

func (t *timeline) stages() string { return strings.Join(t.parts, " ") }
