// SPDX-License-Identifier: Apache-2.0

// Package doctor examines the host: what containers need, whether it is there,
// and what to do when it is not. Checks look; they change nothing.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// checkLimit bounds one check.
const checkLimit = 60 * time.Second

// State is how a check came out.
type State int

const (
	// OK means that nothing is to be done.
	OK State = iota
	// Warning means that containers run, but less well than they could.
	Warning
	// Failure means that containers do not run.
	Failure
)

// String returns the mark that stands in front of a finding.
func (s State) String() string {
	switch s {
	case OK:
		return "ok"
	case Warning:
		return "warning"
	}
	return "FAILED"
}

// Finding is a check's result.
type Finding struct {
	State State
	// Detail says what was found, as a phrase.
	Detail string
	// Advice says what to do, as a sentence; empty when nothing is.
	Advice string
}

// Check examines one thing.
type Check struct {
	// Name is a short noun: "acceleration", "disk space".
	Name string
	// Run examines it. ctx bounds it.
	Run func(ctx context.Context) Finding
}

// ErrUnfit says that something keeps containers from running here.
var ErrUnfit = errors.New("containers cannot run here until what FAILED is mended")

// Run performs the checks in order and writes a line or two for each as it
// ends. It returns ErrUnfit when one of them failed.
func Run(ctx context.Context, w io.Writer, checks []Check) error {
	unfit := false
	for _, c := range checks {
		f := perform(ctx, c)
		unfit = unfit || f.State == Failure
		if _, err := fmt.Fprintf(w, "%-8s %-16s %s\n", f.State, c.Name, f.Detail); err != nil {
			return err
		}
		if f.Advice == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%25s → %s\n", "", f.Advice); err != nil {
			return err
		}
	}
	if unfit {
		return ErrUnfit
	}
	return ctx.Err()
}

func perform(ctx context.Context, c Check) Finding {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	return c.Run(ctx)
}
