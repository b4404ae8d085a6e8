// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

const (
	// slewed is how far the kernel's clock loop may be out: MAXPHASE of Linux's
	// include/linux/timex.h.
	slewed = 500 * time.Millisecond
	// haste is the loop's time constant: a sixteenth of an offset is caught up
	// with in a second, and the frequency learned in a few looks of the host.
	haste = 2
)

// Clock implements guestapi.GuestService.
func (s *session) Clock(_ context.Context, r *guestapi.ClockRequest) (*guestapi.ClockResponse, error) {
	if err := moveClock(time.Duration(r.GetMoveNs())); err != nil {
		return nil, fmt.Errorf("move clock by %v: %w", time.Duration(r.GetMoveNs()), err)
	}
	return &guestapi.ClockResponse{WallTimeNs: time.Now().UnixNano()}, nil
}

// moveClock moves the clock by d: little by little where the kernel's clock loop
// can, which learns the clock's frequency by it, at once where it is further out.
func moveClock(d time.Duration) error {
	var t unix.Timex
	switch {
	case d == 0:
		return nil
	case d.Abs() < slewed:
		t = unix.Timex{
			Modes:  unix.ADJ_OFFSET | unix.ADJ_STATUS | unix.ADJ_TIMECONST | unix.ADJ_NANO,
			Status: unix.STA_PLL, Constant: haste, Offset: d.Nanoseconds(),
		}
	default:
		seconds := d.Truncate(time.Second)
		if seconds > d {
			seconds -= time.Second
		}
		t = unix.Timex{
			Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO,
			// In nanoseconds by ADJ_NANO, and never negative.
			Time: unix.Timeval{Sec: int64(seconds / time.Second), Usec: (d - seconds).Nanoseconds()},
		}
	}
	_, err := unix.Adjtimex(&t)
	return err
}
