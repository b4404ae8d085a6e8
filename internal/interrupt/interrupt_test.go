// SPDX-License-Identifier: Apache-2.0

//go:build unix

package interrupt_test

import (
	"context"
	"os"
	"syscall"
	"testing"

	"byre.dev/byre/internal/interrupt"
)

func TestASignalEndsTheContextAndIsItsCause(t *testing.T) {
	ctx, stop := interrupt.Context(t.Context())
	defer stop()
	if interrupt.Cause(ctx) != nil {
		t.Error("there is a cause before the signal")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if e := interrupt.Cause(ctx); e == nil || e.Signal != syscall.SIGTERM || e.ExitCode() != 143 {
		t.Errorf("cause = %v", e)
	}
}

func TestAContextThatEndsOtherwiseHasNoSignalForItsCause(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	ctx, stop := interrupt.Context(parent)
	defer stop()
	cancel()
	<-ctx.Done()
	if e := interrupt.Cause(ctx); e != nil {
		t.Errorf("cause = %v", e)
	}
}
