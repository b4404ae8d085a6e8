// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"testing"
	"time"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

func TestTheClockIsMovedAtOnceOrByAndBy(t *testing.T) {
	m := guesttest.Start(t, guesttest.Config{})
	// move moves the clock and tells how far it is ahead of the host's then, give
	// or take what the call took.
	move := func(by time.Duration) (ahead, exact time.Duration) {
		t.Helper()
		start := time.Now()
		r, err := m.Guest.Clock(m.Context(), &guestapi.ClockRequest{MoveNs: by.Nanoseconds()})
		if err != nil {
			t.Fatalf("move the clock by %v: %v", by, err)
		}
		round := time.Since(start)
		return time.Unix(0, r.GetWallTimeNs()).Sub(start.Add(round / 2)), round
	}
	within := func(what string, got, exact, want time.Duration) {
		t.Helper()
		if d := got - want; d.Abs() > exact+20*time.Millisecond {
			t.Errorf("%s: the clock is %v ahead, want %v give or take %v", what, got, want, exact)
		}
	}
	base, exact := move(0)
	within("renewed", base, exact, 0)
	for _, by := range []time.Duration{time.Hour, -2*time.Hour - 700*time.Millisecond, time.Hour + 700*time.Millisecond} {
		base += by
		ahead, exact := move(by)
		within("moved by "+by.String(), ahead, exact, base)
	}

	// A small step back is no step: time goes on, and is right after a while.
	const ahead = 400 * time.Millisecond
	before, exact := move(-ahead)
	within("just after the start of a small move", before, exact, base)
	deadline := time.Now().Add(3 * time.Minute)
	var last time.Time
	for ; ; time.Sleep(100 * time.Millisecond) {
		r, err := m.Guest.Clock(m.Context(), &guestapi.ClockRequest{})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(0, r.GetWallTimeNs())
		if !now.After(last) {
			t.Fatalf("time went back from %v to %v", last, now)
		}
		last = now
		off, exact := move(0)
		if d := off - (base - ahead); d.Abs() <= exact/2+100*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the clock is %v ahead, want %v", off, base-ahead)
		}
	}
}
