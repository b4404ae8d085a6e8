// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// peer speaks QEMU's side of the monitor.
type peer struct {
	conn net.Conn

	mu sync.Mutex
	// commands are those that came, guarded by mu.
	commands []string
	// refuse names a command that is answered by an error, guarded by mu.
	refuse string
	// silent names a command that is not answered, guarded by mu.
	silent string
	// keep has the guest not let go of devices, guarded by mu.
	keep bool
}

func (p *peer) serve() {
	fmt.Fprintln(p.conn, `{"QMP": {"version": {}}}`)
	lines := bufio.NewScanner(p.conn)
	for lines.Scan() {
		var c struct {
			Execute   string
			ID        uint64
			Arguments struct{ ID string }
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return
		}
		p.answer(c.Execute, c.ID, c.Arguments.ID)
	}
}

func (p *peer) answer(command string, id uint64, device string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands = append(p.commands, command)
	switch command {
	case p.silent:
		return
	case p.refuse:
		fmt.Fprintf(p.conn, `{"error": {"class": "GenericError", "desc": "no %s today"}, "id": %d}`+"\n", command, id)
		return
	case "device_del":
		if p.keep {
			break
		}
		fmt.Fprintf(p.conn, `{"event": "DEVICE_DELETED", "data": {"device": "another"}}`+"\n")
		fmt.Fprintf(p.conn, `{"event": "DEVICE_DELETED", "data": {"device": %q}}`+"\n", device)
	}
	fmt.Fprintf(p.conn, `{"return": {"said": %q}, "id": %d}`+"\n", command, id)
}

func (p *peer) set(refuse, silent string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.silent = refuse, silent
}

// monitored returns a monitor and the peer that it speaks with.
func monitored(t *testing.T) (*monitor, *peer) {
	t.Helper()
	ours, theirs, err := socketPair("monitor")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(theirs)
	if err := errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	p := &peer{conn: conn}
	var wg sync.WaitGroup
	wg.Go(p.serve)
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	m, err := newMonitor(t.Context(), ours, func(event) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.close() })
	return m, p
}

func TestRefusalsOfTheMonitorCarryQEMUsWords(t *testing.T) {
	m, p := monitored(t)
	p.set("blockdev-add", "")
	err := m.run(t.Context(), "blockdev-add", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "blockdev-add: QEMU: no blockdev-add today") {
		t.Errorf("refused command: %v", err)
	}
	var out struct{ Said string }
	if err := m.run(t.Context(), "query", nil, &out); err != nil || out.Said != "query" {
		t.Errorf("the next command: %+v, %v", out, err)
	}
}

func TestACommandThatIsNotAnsweredEndsWithItsContext(t *testing.T) {
	m, p := monitored(t)
	p.set("", "stop")
	why := errors.New("long enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	if err := m.run(ctx, "stop", nil, nil); !errors.Is(err, why) {
		t.Errorf("unanswered command: %v", err)
	}
	if n := len(m.pending); n != 0 {
		t.Errorf("%d commands are still waited for", n)
	}
}

func TestCommandsEndWithTheMonitor(t *testing.T) {
	m, p := monitored(t)
	p.set("", "stop")
	done := make(chan error)
	go func() { done <- m.run(t.Context(), "stop", nil, nil) }() // received below
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		there := p.commands[len(p.commands)-1] == "stop"
		p.mu.Unlock()
		if there {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the command did not arrive")
		}
	}
	p.conn.Close()
	if err := <-done; !errors.Is(err, errMonitorClosed) {
		t.Errorf("command over a monitor that closes: %v", err)
	}
	if err := m.run(t.Context(), "cont", nil, nil); err == nil {
		t.Error("a command over a closed monitor succeeds")
	}
}

func TestAMonitorThatTalksNonsenseIsLeft(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":         "hello\n",
		"a line of 2 MiB": strings.Repeat("x", 2<<20) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() { io.WriteString(theirs, text) })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := newMonitor(ctx, ours, func(event) {}); !errors.Is(err, errMonitorClosed) {
				t.Errorf("nonsense is a monitor, or takes all time to be seen: %v", err)
			}
			theirs.Close()
			wg.Wait()
		})
	}
}

func TestASecondGreetingIsPassedOver(t *testing.T) {
	m, p := monitored(t)
	fmt.Fprintln(p.conn, `{"QMP": {}}`)
	fmt.Fprintln(p.conn, `{"return": {}, "id": 9999}`)
	if err := m.run(t.Context(), "cont", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestPortsThatGoLeaveNothing(t *testing.T) {
	m, _ := monitored(t)
	p := &ports{monitor: m}
	for range 100 {
		conn, err := p.add(t.Context(), "share")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.add(t.Context(), "share"); !errors.Is(err, errdefs.ErrAlreadyExists) {
			t.Errorf("a second port of the name: %v", err)
		}
		if err := errors.Join(p.remove(t.Context(), "share"), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.byName) != 0 {
		t.Errorf("%d ports are remembered", len(p.byName))
	}
	if err := p.remove(t.Context(), "share"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("removing it again: %v", err)
	}
}

func TestADeviceThatTheGuestKeepsIsGivenUp(t *testing.T) {
	m, p := monitored(t)
	p.mu.Lock()
	p.keep = true
	p.mu.Unlock()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := unplugDevice(ctx, m, "lun7"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		cancel()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.waiters); n != 0 {
		t.Errorf("%d waits are remembered", n)
	}
}

func TestPortsEndWithTheMachine(t *testing.T) {
	m, peer := monitored(t)
	p := &ports{monitor: m}
	var conns []net.Conn
	for i := range maxPorts {
		conn, err := p.add(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if _, err := p.add(t.Context(), "more"); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("one port more than there are: %v", err)
	}
	peer.set("device_add", "")
	if err := p.remove(t.Context(), "0"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.add(t.Context(), "refused"); err == nil || len(p.byName) != maxPorts-1 {
		t.Errorf("a port that QEMU refuses: %v, %d ports", err, len(p.byName))
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if _, err := conns[1].Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing to a port of a machine that ended: %v", err)
	}
	conns[0].Close()
}
