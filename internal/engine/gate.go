// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// gate bounds how many machines start at once: with more of them than the host
// has processors for, none is done before its agent is given up. Whoever comes
// first enters first. A container waits for no other one inside, so that none
// can wait for ever.
type gate struct {
	free *semaphore.Weighted
}

// startsAtOnce is how many machines start side by side. A start waits for
// processes and disks as well, so that there are more than processors.
func startsAtOnce() int64 { return max(4, 2*int64(runtime.NumCPU())) }

func newGate(n int64) gate { return gate{free: semaphore.NewWeighted(n)} }

// enter waits for a place, which leave gives back. A wait that is given up
// leaves nothing behind.
func (g gate) enter(ctx context.Context, id string) (leave func(), err error) {
	if err := g.free.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("container %s waited for others that were starting: %w", short(id), err)
	}
	return func() { g.free.Release(1) }, nil
}
