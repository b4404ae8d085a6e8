// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"byre.dev/byre/internal/vm"
)

// clone starts a machine from a template. Where it can, the clone maps the
// template's memory privately: it costs the host what it writes. Elsewhere it
// gets a copy of the template's pages.
func (d *Driver) clone(ctx context.Context, cfg vm.Config, s spec, t template, watch *stopwatch) (*machine, error) {
	s.incoming = true
	if sharesTemplates(t.dir) {
		m, err := d.cloneShared(ctx, cfg, s, t, watch)
		if !errors.Is(err, errNoFilter) {
			return m, err
		}
		d.cfg.Log.Debug("clones cannot share memory, copying it", "err", err)
	}
	return d.cloneCopied(ctx, cfg, s, t, watch)
}

// errNoFilter is why a clone cannot share its template's memory.
var errNoFilter = errors.New("no way to keep QEMU from discarding the template's memory")

func (d *Driver) cloneShared(ctx context.Context, cfg vm.Config, s spec, t template, watch *stopwatch) (_ *machine, err error) {
	// Opened by us for its identity; QEMU opens it anew by our descriptor.
	memory, err := os.OpenFile(t.memory(), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open template: %w", err)
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	fi, err := memory.Stat()
	if err != nil {
		return nil, fmt.Errorf("open template: %w", err)
	}
	s.private = true
	return d.load(ctx, cfg, launch{spec: s, memory: memory, discards: &discards{template: fi}}, t, nil, watch)
}

// cloneCopied copies the memory while QEMU starts.
func (d *Driver) cloneCopied(ctx context.Context, cfg vm.Config, s spec, t template, watch *stopwatch) (_ *machine, err error) {
	memory, err := newMemoryFile(s.memory)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	filled := make(chan error, 1)
	go func() { filled <- fillMemory(t, memory) }() // load waits for it, always
	return d.load(ctx, cfg, launch{spec: s, memory: memory}, t, filled, watch)
}

func fillMemory(t template, memory *os.File) error {
	saved, err := os.Open(t.memory())
	if err != nil {
		return fmt.Errorf("open template: %w", err)
	}
	return errors.Join(copyMemory(memory, saved, t.sizes.Memory), saved.Close())
}

// load starts QEMU on memory that is a template's, or will be once filled
// says so, and lets it go on where the template was saved.
func (d *Driver) load(ctx context.Context, cfg vm.Config, l launch, t template, filled <-chan error, watch *stopwatch) (*machine, error) {
	h := &eventHolder{}
	migration := make(chan string, 8)
	note := migrationStatus(migration)
	l.binary = d.binary
	l.onEvent = func(e event) {
		note(e)
		h.event(e)
	}
	p, err := start(ctx, l)
	watch.lap("exec")
	if filled != nil {
		err = errors.Join(err, <-filled)
		watch.lap("memory")
	}
	if err == nil {
		if err = p.load(ctx, t.state(), migration); err != nil {
			err = fmt.Errorf("load template: %w", err)
		}
	}
	if err != nil {
		if p != nil {
			err = errors.Join(err, p.close())
		}
		return nil, err
	}
	watch.lap("load")
	return d.adopt(p, h, cfg, l.spec, true, watch)
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
