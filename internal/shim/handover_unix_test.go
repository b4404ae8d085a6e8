// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outputOf returns a process whose standard output is a FIFO, the guest's end of
// that output, and a reader of the FIFO.
func outputOf(t *testing.T, exec string) (p *process, guest net.Conn, reader *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	if reader, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	guest, host := net.Pipe()
	st := &streams{log: slog.New(slog.DiscardHandler), conns: []net.Conn{host}, closers: []io.Closer{w}}
	st.copyOut(w, host)
	p = newProcess("box", exec, "", stdio{Stdout: path})
	p.setStreams(st)
	t.Cleanup(func() {
		st.abandon()
		st.release()
	})
	return p, guest, reader
}

// told returns a channel that is closed when the process's exit may be told.
func told(p *process) <-chan struct{} {
	done := make(chan struct{})
	go func() { // received by the test
		p.handOver()
		close(done)
	}()
	return done
}

func TestExitIsToldOnceTheOutputIsRead(t *testing.T) {
	p, guest, reader := outputOf(t, "")
	if _, err := io.WriteString(guest, "last words"); err != nil {
		t.Fatal(err)
	}
	guest.Close()
	done := told(p)
	select {
	case <-done:
		t.Fatal("the exit was told while output was in the FIFO")
	case <-time.After(100 * time.Millisecond):
	}
	if got, err := io.ReadAll(reader); string(got) != "last words" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	select {
	case <-done:
	case <-time.After(stallWait / 2):
		t.Fatal("the exit is not told although all output was read")
	}
}

func TestExitIsToldWhenTheOutputWasStillOnItsWay(t *testing.T) {
	p, guest, reader := outputOf(t, "")
	done := told(p)
	const size = 1 << 20
	go func() { // ends with the reads below
		guest.Write(make([]byte, size))
		guest.Close()
	}()
	if got, err := io.ReadAll(reader); len(got) != size || err != nil {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	<-done
}

func TestOutputThatAnotherProcessHoldsOpenDoesNotHoldTheExitOfAnExec(t *testing.T) {
	p, guest, _ := outputOf(t, "x")
	defer guest.Close()
	start := time.Now()
	select {
	case <-told(p):
	case <-time.After(stallWait):
		t.Fatal("the exit of an exec waits for a stream that stays open")
	}
	if took := time.Since(start); took < execQuiet {
		t.Fatalf("told after %v, before the output was silent for %v", took, execQuiet)
	}
}

func TestFirstExitIsKept(t *testing.T) {
	p := newProcess("box", "", "", stdio{})
	p.halted(exit{status: 7})
	if st := p.state(); st.GetExitStatus() != 7 {
		t.Fatalf("state %v", st)
	}
	select {
	case <-p.exited:
		t.Fatal("waiters were told")
	default:
	}
	if !p.ended(exit{status: killed}) || p.ended(exit{status: 1}) {
		t.Fatal("the exit was not told exactly once")
	}
	if e, err := p.wait(t.Context()); e.status != 7 || err != nil {
		t.Fatalf("waited for %v, %v; want 7", e, err)
	}
}
