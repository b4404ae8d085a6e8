// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

const (
	// maxPhase is how far the kernel's clock loop may be out: MAXPHASE of Linux's
	// include/linux/timex.h.
	maxPhase = 500 * time.Millisecond
	// haste is the loop's time constant: a sixteenth of an offset is caught up
	// with in a second, and the frequency learned in a few looks of the host.
	haste = 2
)

// Clock implements guestapi.GuestService.
func (s *session) Clock(_ context.Context, r *guestapi.ClockRequest) (*guestapi.ClockResponse, error) {
	var err error
	switch d := time.Duration(r.GetMoveNs()); {
	case d == 0:
	case r.GetAtOnce():
		err = stepClock(d)
	default:
		err = slewClock(d)
	}
	if err != nil {
		return nil, fmt.Errorf("move clock: %w", err)
	}
	return &guestapi.ClockResponse{WallTimeNs: time.Now().UnixNano()}, nil
}

// stepClock moves the clock at once (adjtimex(2)).
func stepClock(d time.Duration) error {
	seconds := d.Truncate(time.Second)
	if seconds > d {
		seconds -= time.Second
	}
	_, err := unix.Adjtimex(&unix.Timex{
		Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO,
		// In nanoseconds by ADJ_NANO, and never negative.
		Time: unix.Timeval{Sec: int64(seconds / time.Second), Usec: (d - seconds).Nanoseconds()},
	})
	return err
}

// slewClock has the kernel's clock loop catch up with d.
func slewClock(d time.Duration) error {
	if d.Abs() >= maxPhase {
		return fmt.Errorf("%v is too much to be caught up with by and by: %w", d, errdefs.ErrInvalidArgument)
	}
	_, err := unix.Adjtimex(&unix.Timex{
		Modes:  unix.ADJ_OFFSET | unix.ADJ_STATUS | unix.ADJ_TIMECONST | unix.ADJ_NANO,
		Status: unix.STA_PLL, Constant: haste, Offset: d.Nanoseconds(),
	})
	return err
}
