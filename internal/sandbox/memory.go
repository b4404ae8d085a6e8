// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io"
	"time"

	"byre.dev/byre/internal/guestapi"
)

const (
	// memoryBlock is what growing and shrinking is rounded to.
	memoryBlock = 128 << 20
	// growStep is the first step; every further one within growMemory of the
	// last is twice as large.
	growStep   = 512 << 20
	growMemory = 10 * time.Second
	// setMemoryWait bounds one change.
	setMemoryWait = 10 * time.Second
	// shrinkEvery is how often a machine that has grown is looked at, and
	// shrinkAfter for how many looks in a row it must have had plenty.
	shrinkEvery = 10 * time.Second
	shrinkAfter = 3
	// plenty is what a guest keeps available when it is shrunk.
	plenty = 768 << 20
)

// watch hears what the guest says without being asked and grows its memory.
// It tries again when the stream ends before the machine does.
func (s *Sandbox) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Debug("event stream ended", "err", err)
		select {
		case <-ctx.Done():
		case <-s.machine.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (s *Sandbox) hear(ctx context.Context) error {
	stream, err := s.link.guest.Events(ctx, &guestapi.EventsRequest{})
	if err != nil {
		return err
	}
	var g grower
	for {
		ev, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := ev.GetEvent().(type) {
		case *guestapi.Event_MemoryLow:
			s.grow(ctx, &g)
		case *guestapi.Event_Oom:
			s.oom(e.Oom.GetContainerId())
		}
	}
}

// oom passes a report on if it is of a container that we know.
func (s *Sandbox) oom(id string) {
	if _, err := s.Container(id); err == nil && s.cfg.OnOOM != nil {
		s.cfg.OnOOM(id)
	}
}

// grower remembers how fast the guest has been asking.
type grower struct {
	step uint64
	last time.Time
}

// next returns the step for a request at a time.
func (g *grower) next(now time.Time) uint64 {
	if g.step == 0 || now.Sub(g.last) > growMemory {
		g.step = growStep
	} else {
		g.step *= 2
	}
	g.last = now
	return g.step
}

// grow gives the machine more memory, up to the bound, which the driver keeps.
func (s *Sandbox) grow(ctx context.Context, g *grower) {
	have := s.machine.Memory()
	if s.cfg.MaxMemory > 0 && have >= s.cfg.MaxMemory {
		return
	}
	want := have + g.next(time.Now())
	if s.cfg.MaxMemory > 0 {
		want = min(want, s.cfg.MaxMemory)
	}
	ctx, cancel := context.WithTimeout(ctx, setMemoryWait)
	defer cancel()
	if err := s.machine.SetMemory(ctx, want); err != nil {
		s.log.Warn("machine cannot have more memory", "have", have, "want", want, "err", err)
		return
	}
	s.log.Debug("machine has more memory", "had", have, "want", want)
}

// shrink takes back memory that the guest has had no use for, down to what the
// machine started with, and what disks hold without use.
func (s *Sandbox) shrink(ctx context.Context) {
	tick := time.NewTicker(shrinkEvery)
	defer tick.Stop()
	idle := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.machine.Done():
			return
		case <-tick.C:
		}
		s.trim(ctx)
		have := s.machine.Memory()
		if have <= s.base {
			idle = 0
			continue
		}
		m, err := s.Memory(ctx)
		if err != nil || m.GetAvailable() < plenty+memoryBlock {
			idle = 0
			continue
		}
		if idle++; idle < shrinkAfter {
			continue
		}
		idle = 0
		s.takeBack(ctx, have, m.GetAvailable())
	}
}

func (s *Sandbox) takeBack(ctx context.Context, have, available uint64) {
	want := shrunk(have, available, s.base)
	if want >= have {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, setMemoryWait)
	defer cancel()
	if err := s.machine.SetMemory(ctx, want); err != nil {
		s.log.Debug("machine keeps its memory", "have", have, "want", want, "err", err)
	}
	// The guest's limits follow when it is asked.
	if _, err := s.Memory(ctx); err != nil {
		s.log.Debug("guest not asked for its memory", "err", err)
	}
}

// shrunk is what a machine needs that has so much memory and so much of it
// available. What the guest says is only ever a reason to take less than all.
func shrunk(have, available, base uint64) uint64 {
	if available < plenty || available > have {
		return have
	}
	spare := (available - plenty) / memoryBlock * memoryBlock
	return max(base, have-spare)
}
