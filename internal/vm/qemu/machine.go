// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"byre.dev/byre/internal/mux"
	"byre.dev/byre/internal/vm"
)

// machine is a running QEMU as vm.Machine.
//
// Locks: disks.mu, ports.mu, nics.mu and memory.mu are held over commands of the
// monitor, which QEMU answers by itself, never over anything that waits for
// the guest.
type machine struct {
	p       *process
	session *mux.Session
	info    vm.Info
	log     *slog.Logger

	disks  disks
	ports  ports
	nics   nics
	memory memory

	// orderly is set when the guest has turned itself off.
	orderly atomic.Bool
	closing atomic.Bool
	done    chan struct{}
	err     error
	wg      sync.WaitGroup
}

var _ vm.Machine = (*machine)(nil)

// newMachine takes ownership of a process whose guest waits, or will wait, on
// the link.
func newMachine(p *process, info vm.Info, size, limit uint64, log *slog.Logger) (*machine, error) {
	session, err := mux.Client(p.link)
	if err != nil {
		return nil, err
	}
	m := &machine{p: p, session: session, info: info, log: log, done: make(chan struct{})}
	m.info.PID = p.proc.PID()
	m.disks.monitor, m.ports.monitor, m.nics.monitor, m.memory.monitor = p.monitor, p.monitor, p.monitor, p.monitor
	m.memory.base, m.memory.limit = size, limit
	m.wg.Go(m.await)
	return m, nil
}

// event is called by the monitor.
func (m *machine) event(e event) {
	if e.Name != "SHUTDOWN" {
		return
	}
	var data struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(e.Data, &data) == nil && data.Reason == "guest-shutdown" {
		m.orderly.Store(true)
	}
}

// await sees QEMU end.
func (m *machine) await() {
	<-m.p.proc.Done()
	switch {
	case m.orderly.Load(), m.closing.Load():
	default:
		m.err = m.p.explain(fmt.Errorf("machine ended: %w", orUnexpected(m.p.proc.Err())))
	}
	close(m.done)
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("the guest reset itself or crashed")
	}
	return err
}

func (m *machine) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	return m.session.Dial(ctx, port)
}

func (m *machine) Listen(port uint32) (net.Listener, error) { return m.session.Listen(port) }

func (m *machine) Info() vm.Info { return m.info }

func (m *machine) Console() []byte { return m.p.console.bytes() }

func (m *machine) Done() <-chan struct{} { return m.done }

func (m *machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *machine) Close() error {
	m.closing.Store(true)
	err := m.p.close()
	m.wg.Wait()
	_ = m.session.Close() // its connection is closed already
	return errors.Join(err, m.ports.close())
}
