// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxSpans bounds a Timeline: it tells of a start, not of a life.
const maxSpans = 64

// Timeline records how long the parts of a start took. It is safe for
// concurrent use; a nil Timeline records nothing.
type Timeline struct {
	zero time.Time
	mu   sync.Mutex
	// spans are in order of their beginning. Guarded by mu.
	spans []Span
}

// Span is a measured part.
type Span struct {
	Name string
	// Begin is the offset from the timeline's zero.
	Begin time.Duration
	// Took is 0 while the part lasts.
	Took time.Duration
}

// NewTimeline returns a Timeline that counts from zero.
func NewTimeline(zero time.Time) *Timeline { return &Timeline{zero: zero} }

// Begin starts a part; the returned function ends it.
func (t *Timeline) Begin(name string) (end func()) {
	if t == nil {
		return func() {}
	}
	begin := time.Since(t.zero)
	i := t.add(Span{Name: name, Begin: begin})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i < len(t.spans) {
			t.spans[i].Took = time.Since(t.zero) - begin
		}
	}
}

func (t *Timeline) add(s Span) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.spans) >= maxSpans {
		return maxSpans
	}
	t.spans = append(t.spans, s)
	return len(t.spans) - 1
}

// Spans returns what was recorded so far.
func (t *Timeline) Spans() []Span {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Span(nil), t.spans...)
}

// String lists the spans in milliseconds: name begin+took.
func (t *Timeline) String() string {
	var b strings.Builder
	for i, s := range t.Spans() {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s %d+%d", s.Name, s.Begin.Milliseconds(), s.Took.Milliseconds())
	}
	return b.String()
}
