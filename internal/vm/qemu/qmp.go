// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
)

// maxMessage bounds one message of the monitor in bytes.
const maxMessage = 1 << 20

// errMonitorClosed says that QEMU has ended or closed its monitor.
var errMonitorClosed = errors.New("QEMU's monitor is closed")

// monitor is a client of QEMU's machine protocol (docs/interop/qmp-spec.txt of
// QEMU). Its methods are safe for concurrent use.
type monitor struct {
	conn net.Conn
	done chan struct{}

	// writeMu keeps commands, and the descriptors that go with them, whole.
	writeMu sync.Mutex

	mu sync.Mutex
	// The rest is guarded by mu.
	nextID  uint64
	pending map[uint64]chan reply
	waiters []*waiter
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *commandError   `json:"error"`
}

// commandError is QEMU's refusal of a command.
type commandError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *commandError) Error() string { return "QEMU: " + e.Desc }

// event is what QEMU tells unasked.
type event struct {
	Name string
	Data json.RawMessage
}

type waiter struct {
	match func(event) bool
	got   chan struct{}
}

// newMonitor greets QEMU over conn, which the monitor owns from then on. ctx
// bounds the greeting. onEvent is called for each event, one at a time, and
// must not block.
func newMonitor(ctx context.Context, conn net.Conn, onEvent func(event)) (*monitor, error) {
	m := &monitor{conn: conn, done: make(chan struct{}), pending: map[uint64]chan reply{}}
	greeted := make(chan struct{})
	go m.read(greeted, onEvent) // ends with the connection; close waits for it
	select {
	case <-greeted:
	case <-m.done:
		return nil, errMonitorClosed
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("await QEMU's greeting: %w", context.Cause(ctx)), m.close())
	}
	if err := m.run(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *monitor) close() error {
	err := m.conn.Close()
	<-m.done
	if errors.Is(err, net.ErrClosed) {
		return nil // QEMU was faster
	}
	return err
}

// message is any of the three forms that QEMU sends.
type message struct {
	QMP   json.RawMessage `json:"QMP"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	ID    uint64          `json:"id"`
	reply
}

func (m *monitor) read(greeted chan<- struct{}, onEvent func(event)) {
	defer m.end()
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(make([]byte, 0, 4096), maxMessage)
	for lines.Scan() {
		var msg message
		if err := json.Unmarshal(lines.Bytes(), &msg); err != nil {
			return
		}
		switch {
		case msg.QMP != nil && greeted != nil:
			close(greeted)
			greeted = nil
		case msg.Event != "":
			e := event{msg.Event, msg.Data}
			m.wake(e)
			onEvent(e)
		default:
			m.answer(msg.ID, msg.reply)
		}
	}
}

func (m *monitor) end() {
	_ = m.conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, c := range m.pending {
		delete(m.pending, id)
		close(c)
	}
	close(m.done)
}

func (m *monitor) answer(id uint64, r reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.pending[id]; ok {
		delete(m.pending, id)
		c <- r
	}
}

func (m *monitor) wake(e event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := m.waiters[:0]
	for _, w := range m.waiters {
		if w.match(e) {
			close(w.got)
		} else {
			kept = append(kept, w)
		}
	}
	m.waiters = kept
}

// expect registers interest in the next event that matches; the channel is
// closed when it comes. The caller calls forget once it no longer waits.
func (m *monitor) expect(match func(event) bool) (got <-chan struct{}, forget func()) {
	w := &waiter{match: match, got: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiters = append(m.waiters, w)
	return w.got, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.waiters = slices.DeleteFunc(m.waiters, func(other *waiter) bool { return other == w })
	}
}

// run executes a command and decodes what it returns into out, which may be
// nil.
func (m *monitor) run(ctx context.Context, command string, arguments, out any) error {
	return m.runWithFile(ctx, nil, command, arguments, out)
}

// runWithFile executes a command that a descriptor goes with.
func (m *monitor) runWithFile(ctx context.Context, file *os.File, command string, arguments, out any) error {
	answer := make(chan reply, 1)
	m.mu.Lock()
	m.nextID++
	id := m.nextID
	m.pending[id] = answer
	m.mu.Unlock()
	if err := m.send(file, id, command, arguments); err != nil {
		m.forget(id)
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case r, ok := <-answer:
		return decode(command, r, ok, out)
	case <-m.done:
		return fmt.Errorf("%s: %w", command, errMonitorClosed)
	case <-ctx.Done():
		m.forget(id)
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

func (m *monitor) forget(id uint64) {
	m.mu.Lock()
	delete(m.pending, id)
	m.mu.Unlock()
}

func decode(command string, r reply, ok bool, out any) error {
	switch {
	case !ok:
		return fmt.Errorf("%s: %w", command, errMonitorClosed)
	case r.Error != nil:
		return fmt.Errorf("%s: %w", command, r.Error)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(r.Return, out); err != nil {
		return fmt.Errorf("%s: read answer: %w", command, err)
	}
	return nil
}

func (m *monitor) send(file *os.File, id uint64, command string, arguments any) error {
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	if file == nil {
		_, err = m.conn.Write(b)
	} else {
		err = writeWithFile(m.conn, b, file)
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return errMonitorClosed
	}
	return err
}
