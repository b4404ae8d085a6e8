// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

// guestClock is the clock of a machine.
type guestClock struct{ *guesttest.Machine }

// move moves the clock and returns how far it is ahead of the host's then, give
// or take what the call took.
func (c guestClock) move(t *testing.T, r *guestapi.ClockRequest) (ahead, exact time.Duration) {
	t.Helper()
	start := time.Now()
	resp, err := c.Guest.Clock(c.Context(), r)
	if err != nil {
		t.Fatalf("clock, %v: %v", r, err)
	}
	round := time.Since(start)
	return time.Unix(0, resp.GetWallTimeNs()).Sub(start.Add(round / 2)), round
}

func TestAClockIsMovedAtOnce(t *testing.T) {
	c := guestClock{guesttest.Start(t, guesttest.Config{})}
	base, exact := c.move(t, &guestapi.ClockRequest{})
	if base.Abs() > exact+time.Second {
		t.Errorf("renewed, the clock is %v ahead, give or take %v", base, exact)
	}
	for _, by := range []time.Duration{time.Hour, -2*time.Hour - 700*time.Millisecond, time.Hour + 700*time.Millisecond, -time.Nanosecond} {
		base += by
		ahead, exact := c.move(t, &guestapi.ClockRequest{MoveNs: by.Nanoseconds(), AtOnce: true})
		if d := ahead - base; d.Abs() > exact+100*time.Millisecond {
			t.Errorf("moved by %v, the clock is %v ahead, want %v give or take %v", by, ahead, base, exact)
		}
	}
}

// The host moves the clock again and again by what it is still out, as its kernel
// may have forgotten: it does when it changes its source of time after a boot.
func TestAClockIsMovedByAndByWithoutGoingBack(t *testing.T) {
	c := guestClock{guesttest.Start(t, guesttest.Config{})}
	_, err := c.Guest.Clock(c.Context(), &guestapi.ClockRequest{MoveNs: -int64(time.Hour)})
	if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) {
		t.Errorf("an hour by and by: %v", err)
	}
	base, _ := c.move(t, &guestapi.ClockRequest{})
	want := base - 200*time.Millisecond
	deadline := time.Now().Add(3 * time.Minute)
	var last time.Time
	for {
		ahead, exact := c.move(t, &guestapi.ClockRequest{})
		if d := ahead - want; d.Abs() <= exact/2+20*time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the clock is %v ahead, want %v", ahead, want)
		}
		c.move(t, &guestapi.ClockRequest{MoveNs: (want - ahead).Nanoseconds()})
		for range 50 {
			r, err := c.Guest.Clock(c.Context(), &guestapi.ClockRequest{})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Unix(0, r.GetWallTimeNs())
			if !now.After(last) {
				t.Fatalf("time went back from %v to %v", last, now)
			}
			last = now
			time.Sleep(50 * time.Millisecond)
		}
	}
}
