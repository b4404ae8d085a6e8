// SPDX-License-Identifier: Apache-2.0

// Package interrupt lets the signals that ask a process to end do so in order.
package interrupt

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Error is the cause of a context that a signal ended.
type Error struct{ Signal syscall.Signal }

// Error names the signal.
func (e *Error) Error() string { return "ended by signal: " + e.Signal.String() }

// ExitCode is what a shell shows for a process that the signal ended.
func (e *Error) ExitCode() int { return 128 + int(e.Signal) }

// Cause returns the signal that ended ctx, nil where none did.
func Cause(ctx context.Context) *Error {
	e, _ := errors.AsType[*Error](context.Cause(ctx))
	return e
}

// Context ends ctx at the first terminating signal; the third one ends the
// process, for work that does not heed its context. stop gives the signals back.
func Context(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, terminating...)
	go func() { // ends with the process: stop closes the channel
		seen := 0
		for s := range signals {
			sig, _ := s.(syscall.Signal)
			e := &Error{sig}
			cancel(e)
			if seen++; seen == 3 {
				os.Exit(e.ExitCode())
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}
