// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFiftyStartsAtOnceAllGoThroughAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places, starts = 4, 50
		g := newGate(places)
		var inside, most, done atomic.Int64
		var all sync.WaitGroup
		for range starts {
			all.Go(func() {
				leave, err := g.enter(t.Context(), "c")
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				inside.Add(-1)
				done.Add(1)
				leave()
			})
		}
		begin := time.Now()
		all.Wait()
		if most.Load() != places || done.Load() != starts {
			t.Errorf("%d at once, %d done; want %d and %d", most.Load(), done.Load(), places, starts)
		}
		// 50 of a second each, 4 at a time.
		if took := time.Since(begin); took != 13*time.Second {
			t.Errorf("took %v, want 13 s", took)
		}
	})
}

func TestAStartThatIsGivenUpAtTheGateTakesNoPlace(t *testing.T) {
	g := newGate(1)
	leave, err := g.enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.enter(gone, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("entered, or %v", err)
	}
	leave()
	if leave, err = g.enter(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	leave()
}
