// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"

	"byre.dev/byre/internal/hostproc"
)

// maxStderr bounds what is kept of QEMU's own messages.
const maxStderr = 16 << 10

// process is a running QEMU with its connections. It owns all of them.
type process struct {
	proc    *hostproc.Process
	monitor *monitor
	console *console
	stderr  *tailWriter
	link    net.Conn
	conns   []net.Conn
	// discards guards the template that QEMU maps; nil when it maps none.
	discards *discards
	wg       sync.WaitGroup
}

// launch describes a QEMU to be started.
type launch struct {
	binary string
	spec   spec
	// memory is the memory file that QEMU inherits; nil for anonymous memory.
	memory *os.File
	// discards guards that file when it is a template; else nil.
	discards *discards
	// onEvent is called for each event of the monitor.
	onEvent func(event)
}

// start runs QEMU and greets its monitor. ctx bounds that. A start that fails
// leaves nothing behind.
func start(ctx context.Context, l launch) (_ *process, err error) {
	p := &process{console: newConsole(), stderr: &tailWriter{max: maxStderr}}
	var files []*os.File
	closeFiles := func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		files = nil
	}
	defer func() {
		closeFiles()
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	inherit := func(f *os.File) int {
		files = append(files, f)
		return 2 + len(files)
	}
	pair := func(name string) (net.Conn, int, error) {
		ours, theirs, err := socketPair(name)
		if err != nil {
			return nil, 0, err
		}
		p.conns = append(p.conns, ours)
		return ours, inherit(theirs), nil
	}

	var qmp, consoleConn net.Conn
	s := l.spec
	if qmp, s.qmpFD, err = pair("monitor"); err != nil {
		return nil, err
	}
	if consoleConn, s.consoleFD, err = pair("console"); err != nil {
		return nil, err
	}
	if p.link, s.linkFD, err = pair("guest link"); err != nil {
		return nil, err
	}
	memoryAt := 0
	if l.memory != nil {
		memoryAt = 3 + len(files)
		s.memoryPath = inherited(memoryAt)
	}
	cmd := exec.Command(l.binary, args(s)...)
	cmd.ExtraFiles = files
	if l.memory != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles[:len(files):len(files)], l.memory)
	}
	cmd.Stderr = p.stderr
	// Fewer malloc arenas: each costs a machine memory that it keeps.
	cmd.Env = append(os.Environ(), "MALLOC_ARENA_MAX=1")
	p.discards = l.discards
	if p.proc, err = hostproc.StartAfter(l.prepare, cmd); err != nil {
		return nil, startError(l.binary, err)
	}
	if p.discards != nil {
		p.wg.Go(p.discards.serve)
	}
	// QEMU's ends are its alone from here, so that they end with it.
	closeFiles()
	p.wg.Go(func() { p.console.drain(consoleConn) })
	if p.monitor, err = newMonitor(ctx, qmp, l.onEvent); err != nil {
		return nil, p.explain(err)
	}
	return p, nil
}

// prepare is done by the thread that forks QEMU.
func (l launch) prepare() error {
	err := leaveNetwork()
	if l.spec.accel == "tcg" && !l.spec.warm {
		err = errors.Join(err, smallPages())
	}
	if l.discards != nil {
		// The filter comes last, since it gives up privileges.
		err = errors.Join(err, l.discards.install())
	}
	return err
}

func startError(binary string, err error) error {
	return fmt.Errorf("start %s: %w: %s", binary, err, InstallAdvice)
}

// InstallAdvice says how to get QEMU.
const InstallAdvice = "install QEMU (Debian: apt-get install qemu-system-x86) and see that it is on PATH"

// explain adds what QEMU said before it ended.
func (p *process) explain(err error) error {
	if text := p.said(); text != "" {
		return fmt.Errorf("%w: QEMU said: %s", err, text)
	}
	return err
}

// said is what QEMU wrote to its standard error, but for its warnings that a
// card has no switch yet.
func (p *process) said() string {
	var b strings.Builder
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.Contains(line, "is not connected to host network") {
			b.WriteString(line)
		}
	}
	return strings.TrimSpace(b.String())
}

// close ends QEMU and releases everything.
func (p *process) close() error {
	var err error
	if p.proc != nil {
		err = p.proc.Kill()
	}
	for _, c := range p.conns {
		if cerr := c.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	if p.discards != nil {
		err = errors.Join(err, p.discards.close())
	}
	p.wg.Wait()
	if p.monitor != nil {
		<-p.monitor.done
	}
	return err
}

// tailWriter keeps the last bytes written to it.
type tailWriter struct {
	max int

	mu sync.Mutex
	// b is guarded by mu.
	b []byte
}

var _ io.Writer = (*tailWriter)(nil)

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	if extra := len(w.b) - w.max; extra > 0 {
		w.b = append(w.b[:0], w.b[extra:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.b)
}
