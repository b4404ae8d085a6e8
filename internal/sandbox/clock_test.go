// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"byre.dev/byre/internal/guestapi"
)

// wanderer is a guest's clock: ahead of the host's, and further ahead by drift,
// in parts of a million. It is read way after it was asked and tells back later.
type wanderer struct {
	guestapi.GuestClient

	mu        sync.Mutex // guards what follows
	set       time.Time
	ahead     time.Duration
	drift     int64
	way, back time.Duration
	asked     int
	moved     []time.Duration
	stepped   []time.Duration
	err       error
}

func (w *wanderer) off() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offLocked()
}

func (w *wanderer) offLocked() time.Duration {
	return w.ahead + time.Since(w.set)/1e6*time.Duration(w.drift)
}

func (w *wanderer) Clock(_ context.Context, r *guestapi.ClockRequest) (*guestapi.ClockResponse, error) {
	time.Sleep(w.way)
	told, back, err := w.move(r)
	time.Sleep(back)
	return &guestapi.ClockResponse{WallTimeNs: told}, err
}

// move does what a request asks for, at the guest.
func (w *wanderer) move(r *guestapi.ClockRequest) (told int64, back time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if d := time.Duration(r.GetMoveNs()); d != 0 {
		w.ahead += d
		w.moved = append(w.moved, d)
		if r.GetAtOnce() {
			w.stepped = append(w.stepped, d)
		}
	}
	return time.Now().Add(w.offLocked()).UnixNano(), w.back, w.err
}

// history returns how often the clock was asked for and by what it was moved.
func (w *wanderer) history() (asked int, moved []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked, slices.Clone(w.moved)
}

func keeper(w *wanderer) *Sandbox {
	w.set = time.Now()
	return &Sandbox{
		machine: &silent{done: make(chan struct{})}, link: &link{guest: w}, log: slog.New(slog.DiscardHandler),
	}
}

func TestAGuestsClockIsKeptWithTheHosts(t *testing.T) {
	for name, w := range map[string]*wanderer{
		"right":            {way: time.Millisecond, back: time.Millisecond},
		"a little behind":  {ahead: -30 * time.Millisecond, way: time.Millisecond, back: time.Millisecond},
		"an hour behind":   {ahead: -time.Hour, way: time.Millisecond, back: time.Millisecond},
		"years ahead":      {ahead: 3 * 365 * 24 * time.Hour, way: time.Millisecond, back: time.Millisecond},
		"going wrong":      {drift: 100, way: time.Millisecond, back: 2 * time.Millisecond},
		"going very wrong": {drift: -3000, way: time.Millisecond, back: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				s := keeper(w)
				go s.keepClock(ctx) // ends with the context, before the test does
				time.Sleep(clockFirst + time.Second)
				if off := w.off(); off.Abs() > 5*time.Millisecond {
					t.Errorf("%v ahead after the first look", off)
				}
				time.Sleep(time.Hour)
				// What it goes wrong by between two looks, and as much as it is when
				// another look follows soon.
				most := clockExact + time.Duration(max(w.drift, -w.drift))*clockEvery/1e6
				if off := w.off(); off.Abs() > most {
					t.Errorf("%v ahead after an hour, more than %v", off, most)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestAGuestWhoseClockIsRightIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &wanderer{ahead: 300 * time.Microsecond, way: time.Millisecond, back: time.Millisecond}
		s := keeper(w)
		go s.keepClock(ctx)
		time.Sleep(time.Hour)
		asked, moved := w.history()
		if most := int(time.Hour/clockEvery+2) * clockSamples; asked > most || asked < most/2 {
			t.Errorf("asked %d times in an hour, at most %d are meant", asked, most)
		}
		if len(moved) > 0 {
			t.Errorf("moved by %v, which is less than an answer is exact to", moved)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAClockIsSetBackOnlyWhereItIsFarOut(t *testing.T) {
	for name, test := range map[string]struct {
		ahead       time.Duration
		first, step bool
	}{
		"a new machine is behind":         {ahead: -30 * time.Millisecond, first: true, step: true},
		"a new machine is ahead":          {ahead: 30 * time.Millisecond, first: true},
		"a machine is behind":             {ahead: -30 * time.Millisecond},
		"a machine is far behind":         {ahead: -time.Second, step: true},
		"a machine is far ahead":          {ahead: time.Second, step: true},
		"what the kernel catches up with": {ahead: 399 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wanderer{ahead: test.ahead, way: time.Millisecond, back: time.Millisecond}
				if _, err := keeper(w).setClock(t.Context(), test.first); err != nil {
					t.Fatal(err)
				}
				if len(w.moved) != 1 || w.moved[0] != -test.ahead {
					t.Errorf("moved by %v, want %v", w.moved, -test.ahead)
				}
				if step := len(w.stepped) > 0; step != test.step {
					t.Errorf("at once: %v, want %v", step, test.step)
				}
			})
		})
	}
}

// An answer that was long under way tells little.
func TestAClockIsMovedByWhatIsCertainOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wanderer{ahead: 20 * time.Millisecond, way: time.Millisecond, back: 300 * time.Millisecond}
		s := keeper(w)
		if off, err := s.setClock(t.Context(), false); err != nil || off != 0 || len(w.moved) != 0 {
			t.Errorf("by answers after 300 ms: %v ahead, %v, moved by %v", off, err, w.moved)
		}
		w.back = time.Millisecond
		if off, err := s.setClock(t.Context(), false); err != nil || off != 20*time.Millisecond || len(w.moved) != 1 {
			t.Errorf("by answers after 1 ms: %v ahead, %v, moved by %v", off, err, w.moved)
		}
		w.err = errors.New("no clock")
		if _, err := s.setClock(t.Context(), false); !errors.Is(err, w.err) {
			t.Errorf("a guest that refuses: %v", err)
		}
	})
}
