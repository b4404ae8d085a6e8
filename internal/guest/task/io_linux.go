// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/stdio"
)

// drainIdle is how long an output may be silent after its process has ended
// before it is given up: a process that left the container's reach may hold the
// pipe for ever. containerd's own shim waits 2 s in all, we only in silence.
const drainIdle = 2 * time.Second

// processIO is the standard streams of one process: what the host opened, what
// runc gets, and the relays between.
type processIO struct {
	terminal        bool
	in, out, err    net.Conn
	inName, outName string
	errName         string

	// child has the process's ends of the pipes until runc has them.
	child streams
	// ours has our ends in the same order.
	ours    streams
	console *consoleSocket
	pty     *os.File

	input   *stdio.Input
	outputs []*stdio.Output
}

// openIO takes the host's streams and makes the pipes or the console socket.
func openIO(ctx context.Context, hub *stdio.Hub, p *processIO, tmp string) (err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, s := range []struct {
		name string
		conn *net.Conn
	}{{p.inName, &p.in}, {p.outName, &p.out}, {p.errName, &p.err}} {
		if s.name == "" || p.terminal && s.conn == &p.err {
			continue
		}
		if *s.conn, err = hub.Take(ctx, s.name); err != nil {
			return err
		}
	}
	if p.terminal {
		p.console, err = newConsoleSocket(tmp)
		return err
	}
	return p.makePipes()
}

func (p *processIO) makePipes() (err error) {
	if p.in != nil {
		if p.child.in, p.ours.in, err = os.Pipe(); err != nil {
			return fmt.Errorf("make stdin: %w", err)
		}
	}
	if p.out != nil {
		if p.ours.out, p.child.out, err = outputPipe(); err != nil {
			return fmt.Errorf("make stdout: %w", err)
		}
	}
	if p.err != nil {
		if p.ours.err, p.child.err, err = outputPipe(); err != nil {
			return fmt.Errorf("make stderr: %w", err)
		}
	}
	return nil
}

// pipeSize lets a process write on while the relay is at work: with a pipe of
// the usual size each waits for the other after 64 KiB. Pages are taken as they
// are written.
const pipeSize = 512 << 10

func outputPipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	// A pipe that stays smaller is slower, no more.
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	return r, w, nil
}

// start begins to relay, once runc has started the process.
func (p *processIO) start(hub *stdio.Hub) error {
	p.child.close()
	if p.terminal {
		return p.startTerminal(hub)
	}
	if p.in != nil {
		p.input = stdio.StartInput(hub, p.inName, p.in, p.ours.in)
	}
	if p.out != nil {
		p.outputs = append(p.outputs, stdio.StartOutput(p.ours.out, p.out))
	}
	if p.err != nil {
		p.outputs = append(p.outputs, stdio.StartOutput(p.ours.err, p.err))
	}
	return nil
}

func (p *processIO) startTerminal(hub *stdio.Hub) error {
	pty, err := p.console.receive()
	p.console.close()
	p.console = nil
	if err != nil {
		return err
	}
	p.pty = pty
	if p.in != nil {
		p.input = stdio.StartInput(hub, p.inName, p.in, keepOpen{pty})
	}
	if p.out == nil { // nobody listens: the process must not block on it
		p.out = discardConn{}
	}
	p.outputs = append(p.outputs, stdio.StartOutput(pty, p.out))
	return nil
}

// drain waits for the last byte of output and ends the relays.
func (p *processIO) drain(ctx context.Context) error {
	var errs []error
	for _, o := range p.outputs {
		errs = append(errs, o.Drain(ctx, drainIdle))
	}
	p.close()
	return errors.Join(errs...)
}

// close releases everything; it is idempotent.
func (p *processIO) close() {
	p.child.close()
	if p.console != nil {
		p.console.close()
		p.console = nil
	}
	// Outputs first: closing the terminal frees an input that writes to it.
	for _, o := range p.outputs {
		o.Close()
	}
	if p.input != nil {
		p.input.Close()
	}
	p.ours.close()
	for _, c := range []net.Conn{p.in, p.out, p.err} {
		if c != nil {
			c.Close()
		}
	}
}

func (s *streams) close() {
	for _, f := range []**os.File{&s.in, &s.out, &s.err} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// keepOpen is a terminal seen by its input: the end of input is a matter of the
// characters sent, not of closing.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// discardConn drops what is written to it.
type discardConn struct{ net.Conn }

func (discardConn) Write(b []byte) (int, error) { return len(b), nil }
func (discardConn) Close() error                { return nil }
