// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"byre.dev/byre/internal/vm"
)

// clone starts a machine from a template. The copy of its memory is made while
// QEMU starts.
func (d *Driver) clone(ctx context.Context, cfg vm.Config, s spec, t template, watch *stopwatch) (_ *machine, err error) {
	memory, err := newMemoryFile(s.memory)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	filled := make(chan error, 1)
	go func() { filled <- fillMemory(t, memory) }() // awaited below, always

	h := &eventHolder{}
	migration := make(chan string, 8)
	note := migrationStatus(migration)
	s.incoming = true
	p, err := start(ctx, launch{binary: d.binary, spec: s, nic: cfg.NIC, memory: memory, onEvent: func(e event) {
		note(e)
		h.event(e)
	}})
	watch.lap("exec")
	if err := errors.Join(err, <-filled); err != nil {
		if p != nil {
			err = errors.Join(err, p.close())
		}
		return nil, err
	}
	watch.lap("memory")
	if err := p.load(ctx, t.state(), migration); err != nil {
		return nil, errors.Join(fmt.Errorf("load template: %w", err), p.close())
	}
	watch.lap("load")
	return d.adopt(p, h, cfg, s, true, watch)
}

func fillMemory(t template, memory *os.File) error {
	packed, err := os.Open(t.memory())
	if err != nil {
		return fmt.Errorf("open template: %w", err)
	}
	return errors.Join(unpackMemory(packed, t.meta.Extents, memory), packed.Close())
}

// load gives QEMU the saved state of the devices and lets the machine run.
func (p *process) load(ctx context.Context, path string, states <-chan string) (err error) {
	state, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := p.ignoreShared(ctx); err != nil {
		return err
	}
	ours, theirs, err := socketPair("saved state")
	if err != nil {
		return err
	}
	defer ours.Close()
	err = p.monitor.runWithFile(ctx, theirs, "getfd", map[string]any{"fdname": "state"}, nil)
	if err := errors.Join(err, theirs.Close()); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { // ends with the socket, closed below
		_, err := ours.Write(state)
		sent <- err
	}()
	if err := p.monitor.run(ctx, "migrate-incoming", map[string]any{"uri": "fd:state"}, nil); err != nil {
		return err
	}
	if err := awaitMigration(ctx, p, states); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	return p.monitor.run(ctx, "cont", nil, nil)
}
