// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/mux"
	"byre.dev/byre/internal/sandbox"
)

// stdio describes where a process's standard streams come from and go to, in
// containerd's words: paths of FIFOs or named pipes, or log URIs.
type stdio struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// input is the host's end of a standard input.
type input interface {
	io.Reader
	// begin is called once, before the first read, when the process starts.
	begin() error
	// finish lets reads return what has been written so far and then end.
	finish()
	io.Closer
}

// streams are a process's standard streams at work: copies between the host's
// ends and streams of the guest link.
type streams struct {
	log *slog.Logger
	// names of the streams in the guest, "" for those not there.
	stdin, stdout, stderr string

	in    input
	conns []net.Conn
	// inConn is the guest's end of standard input, one of conns.
	inConn net.Conn
	// stdinDone is closed when nothing more comes from the host.
	stdinDone chan struct{}
	// outputs waits for the copies from the guest, all for every copy.
	outputs, all sync.WaitGroup
	// moved counts the bytes that the host took, copying the outputs that have
	// not ended.
	moved   atomic.Uint64
	copying atomic.Int64
	// closers are released when the outputs have ended.
	closers []io.Closer
	closed  sync.Once
}

// openStreams opens the host's ends and the guest's streams and starts to copy.
// prefix makes the streams' names unique in the sandbox.
func openStreams(ctx context.Context, sb *sandbox.Sandbox, prefix string, cfg stdio, sink logContext, log *slog.Logger) (_ *streams, err error) {
	s := &streams{log: log, stdinDone: make(chan struct{})}
	defer func() {
		if err != nil {
			s.abandon()
			s.release()
		}
	}()
	outs, err := s.openHost(cfg, sink)
	if err != nil {
		return nil, err
	}
	for i, w := range outs {
		if w == nil {
			continue
		}
		name := prefix + []string{"/stdout", "/stderr"}[i]
		conn, err := s.dial(ctx, sb, name)
		if err != nil {
			return nil, err
		}
		*[]*string{&s.stdout, &s.stderr}[i] = name
		s.copyOut(w, conn)
	}
	if s.in != nil {
		s.stdin = prefix + "/stdin"
		if s.inConn, err = s.dial(ctx, sb, s.stdin); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// openHost opens the host's ends. The answer has standard output and error,
// nil for those that nobody wants.
func (s *streams) openHost(cfg stdio, sink logContext) (outs [2]io.WriteCloser, err error) {
	if cfg.Stdin != "" {
		if s.in, err = openInput(cfg.Stdin); err != nil {
			return outs, fmt.Errorf("open standard input %s: %w", cfg.Stdin, err)
		}
	}
	scheme, uri, err := logURI(cfg.Stdout)
	if err != nil {
		return outs, err
	}
	if scheme != "" {
		outs, c, err := openLogSink(scheme, uri, cfg.Terminal, sink)
		if err == nil {
			s.closers = append(s.closers, c...)
		}
		return outs, err
	}
	for i, path := range []string{cfg.Stdout, cfg.Stderr} {
		if path == "" || (i == 1 && cfg.Terminal) {
			continue
		}
		if outs[i], err = openOutput(path); err != nil {
			return outs, fmt.Errorf("open standard output %s: %w", path, err)
		}
		s.closers = append(s.closers, outs[i])
	}
	return outs, nil
}

func (s *streams) dial(ctx context.Context, sb *sandbox.Sandbox, name string) (net.Conn, error) {
	conn, err := sb.OpenStream(ctx, name)
	if err != nil {
		return nil, err
	}
	s.conns = append(s.conns, conn)
	return conn, nil
}

// copyOut copies what the process writes, to the last byte, and closes the
// host's end, by which a reader learns that this was all.
func (s *streams) copyOut(w io.WriteCloser, conn net.Conn) {
	s.all.Add(1)
	s.copying.Add(1)
	s.outputs.Go(func() {
		defer s.all.Done()
		defer s.copying.Add(-1)
		defer func() { _ = w.Close() }()
		defer func() { _ = conn.Close() }()
		var buf []byte
		var n int
		var err error
		for {
			buf = mux.Buffer(buf, n)
			n, err = conn.Read(buf)
			if n > 0 {
				if _, werr := w.Write(buf[:n]); werr != nil {
					s.log.Warn("output of a process is lost", "err", werr)
					return
				}
				s.moved.Add(uint64(n))
			}
			if err != nil {
				return
			}
		}
	})
}

// begin starts to copy standard input and returns a channel that is closed when
// all of it is on its way; nil when there is none.
func (s *streams) begin() (<-chan struct{}, error) {
	if s.in == nil {
		return nil, nil
	}
	if err := s.in.begin(); err != nil {
		return nil, fmt.Errorf("begin standard input: %w", err)
	}
	s.copyIn(s.inConn)
	return s.stdinDone, nil
}

// copyIn copies what the host writes to the process's input.
func (s *streams) copyIn(conn net.Conn) {
	s.all.Go(func() {
		defer close(s.stdinDone)
		defer func() { _ = conn.Close() }()
		// A process that no longer reads ends the copy; then the host's writer
		// is to learn of it.
		defer func() { _ = s.in.Close() }()
		var buf []byte
		var n int
		var err error
		for {
			buf = mux.Buffer(buf, n)
			n, err = s.in.Read(buf)
			if n > 0 {
				if _, werr := conn.Write(buf[:n]); werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
}

// finishInput ends standard input behind what has been written so far.
func (s *streams) finishInput() {
	if s.in != nil {
		s.in.finish()
	}
}

// stallWait is how long a reader may take no byte before the rest of a dead
// process's output is given up.
const stallWait = 10 * time.Second

// drain waits until all output has been handed over. A reader that takes
// nothing for stallWait loses the rest.
func (s *streams) drain() {
	if !s.settle(stallWait, (*streams).copied) {
		s.log.Warn("output of a process is given up: nobody reads it")
		s.abandon()
		s.outputs.Wait()
	}
}

// settleEvery is how often settle looks.
const settleEvery = 2 * time.Millisecond

// settle waits until done says so, or until no byte has moved for quiet. It
// reports which.
func (s *streams) settle(quiet time.Duration, done func(*streams) bool) bool {
	moved, since := s.moved.Load(), time.Now()
	for !done(s) {
		time.Sleep(settleEvery)
		if now := s.moved.Load(); now != moved {
			moved, since = now, time.Now()
		}
		if time.Since(since) > quiet {
			return false
		}
	}
	return true
}

// copied tells whether all outputs have ended.
func (s *streams) copied() bool { return s.copying.Load() == 0 }

// taken tells whether all outputs have ended and a reader has taken them.
func (s *streams) taken() bool {
	return s.copied() && !slices.ContainsFunc(s.closers, func(c io.Closer) bool {
		u, ok := c.(interface{ unread() bool })
		return ok && u.unread()
	})
}

// abandon ends all copies at once.
func (s *streams) abandon() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	if s.in != nil {
		_ = s.in.Close()
	}
	for _, c := range s.closers {
		if d, ok := c.(interface{ unblock() }); ok {
			d.unblock()
		}
	}
}

// release ends input and frees everything; outputs must have been drained or
// abandoned.
func (s *streams) release() {
	s.closed.Do(func() {
		if s.in != nil {
			_ = s.in.Close()
		}
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.all.Wait()
		for _, c := range s.closers {
			if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				s.log.Warn("log sink did not end well", "err", err)
			}
		}
	})
}

// logURI tells whether a stream goes to a log of its own instead of to a FIFO.
// Every scheme that containerd knows is honoured; others are refused by name.
func logURI(stdout string) (scheme string, u *url.URL, err error) {
	if !strings.Contains(stdout, "://") {
		return "", nil, nil
	}
	u, err = url.Parse(stdout)
	if err != nil {
		return "", nil, fmt.Errorf("log URI %q: %w", stdout, err)
	}
	switch u.Scheme {
	case "file", "binary":
		return u.Scheme, u, nil
	case "fifo":
		return "", nil, fmt.Errorf("log URI %q: give the path of the FIFO without a scheme: %w", stdout, errdefs.ErrInvalidArgument)
	}
	return "", nil, fmt.Errorf("log URI %q: scheme %s is neither file nor binary: %w", stdout, u.Scheme, errdefs.ErrInvalidArgument)
}
