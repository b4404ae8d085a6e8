// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"time"

	"byre.dev/byre/internal/guestapi"
)

// A guest's clock runs by what the host gives it: it goes a little slower or
// faster than the host's, stands still while the host sleeps, and knows nothing
// of a host's clock that is set. Files on a bind mount carry the host's time, so
// that a guest that is behind sees them in its future.
const (
	// clockFirst is how long after its start a guest is first asked: behind the
	// start that everybody waits for.
	clockFirst = 2 * time.Second
	// clockLook is how often the host's own clock is looked at, which asks
	// nothing of the guest; clockJump is how far it must be from where it should
	// be for the guest to be asked at once.
	clockLook = 10 * time.Second
	clockJump = time.Second
	// clockStep is how far a clock is out that is set at once, which may take it
	// back: the guest's kernel catches up with less by and by. A new machine's is
	// set at once as well where it is behind: nobody can tell that from a delay.
	clockStep = 400 * time.Millisecond
	// clockEvery is how often the guest is asked for its clock. One that was out
	// by more than clockExact is asked again after clockLook.
	clockEvery = time.Minute
	clockExact = 5 * time.Millisecond
	// clockSamples is how often the clock is read: the quickest answer is taken.
	clockSamples = 4
	// clockWait bounds a setting of the clock.
	clockWait = 20 * time.Second
)

// keepClock keeps the guest's clock with the host's.
func (s *Sandbox) keepClock(ctx context.Context) {
	var due time.Time // by the host's monotonic clock
	for look := clockFirst; ; look = clockLook {
		start := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-s.machine.Done():
			return
		case <-time.After(look):
		}
		now := time.Now()
		// What the wall clock has gone on beyond the time waited.
		jump := now.Round(0).Sub(start.Round(0)) - look
		if now.Before(due) && jump.Abs() < clockJump {
			continue
		}
		off, err := s.setClock(ctx, look == clockFirst)
		if err != nil {
			s.log.Debug("guest's clock not set", "err", err)
		}
		if err == nil && off.Abs() <= clockExact {
			due = now.Add(clockEvery - clockLook/2)
		} else {
			due = now
		}
	}
}

// setClock asks the guest for its clock, moves it to the host's and returns how
// far it was ahead.
func (s *Sandbox) setClock(ctx context.Context, first bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockWait)
	defer cancel()
	var best reading
	for n := range clockSamples {
		r, err := readClock(ctx, s.link.guest)
		if err != nil {
			return 0, err
		}
		if n == 0 || r.round < best.round {
			best = r
		}
	}
	s.log.Debug("guest's clock read", "ahead", best.off, "exact", best.round/2)
	if best.off.Abs() <= best.round/2 {
		return 0, nil
	}
	_, err := s.link.guest.Clock(ctx, &guestapi.ClockRequest{
		MoveNs: -best.off.Nanoseconds(), AtOnce: best.off.Abs() >= clockStep || first && best.off < 0,
	})
	return best.off, err
}

// reading is a guest's clock: how far it was ahead of the host's, give or take
// half of what the call took.
type reading struct {
	off, round time.Duration
}

func readClock(ctx context.Context, guest guestapi.GuestClient) (reading, error) {
	start := time.Now()
	r, err := guest.Clock(ctx, &guestapi.ClockRequest{})
	if err != nil {
		return reading{}, err
	}
	round := time.Since(start)
	return reading{off: time.Unix(0, r.GetWallTimeNs()).Sub(start.Round(0).Add(round / 2)), round: round}, nil
}
