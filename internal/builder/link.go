// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/stream"
	"byre.dev/byre/internal/mux"
)

// Ports of the link, as builder/buildkitd has them.
const (
	portControl = 1
	portAlive   = 2
	portImages  = 3
)

const (
	// socket is where BuildKit takes the link, cacheDir its cache, in the
	// builder's container.
	socket   = "/run/builder.sock"
	cacheDir = "/var/lib/buildkit"
	// startLimit bounds how long BuildKit may take to be ready.
	startLimit = 3 * time.Minute
	// headerLimit bounds the guest's requests for images.
	headerLimit = 64 << 10
)

// link is the daemon's connection to a running builder.
type link struct {
	session *mux.Session
	alive   net.Conn
	server  *http.Server
	wg      sync.WaitGroup

	mu sync.Mutex
	// uses are the connections that there are; last is when one went. Both are
	// guarded by mu.
	uses int
	last time.Time
}

// connect links to the builder that runs and waits until BuildKit is ready.
func connect(ctx context.Context, eng *engine.Engine, images http.Handler, log *slog.Logger) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	conn, err := dialExec(ctx, eng, log)
	if err != nil {
		return nil, err
	}
	session, err := mux.Client(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l := &link{session: session, last: time.Now()}
	if err := l.open(ctx, images, log); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return l, nil
}

// open serves the images and waits for BuildKit's greeting.
func (l *link) open(ctx context.Context, images http.Handler, log *slog.Logger) error {
	listener, err := l.session.Listen(portImages)
	if err != nil {
		return err
	}
	if l.alive, err = l.session.Dial(ctx, portAlive); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.alive.SetReadDeadline(time.Now()) })
	defer stop()
	if _, err := io.ReadFull(l.alive, make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("wait for BuildKit: %w", err)
	}
	l.server = &http.Server{
		Handler: images, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: headerLimit,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	l.wg.Go(func() { _ = l.server.Serve(listener) })
	return nil
}

// show tells the builder that its daemon is there.
func (l *link) show() error {
	if err := l.alive.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err := l.alive.Write([]byte{portAlive})
	return err
}

// endWait is how long a link that is broken may take to end.
const endWait = 2 * time.Second

// ends says whether the link has ended, or does any moment.
func (l *link) ends(ctx context.Context) bool {
	select {
	case <-l.session.Done():
		return true
	case <-time.After(endWait):
	case <-ctx.Done():
	}
	return false
}

func (l *link) use() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uses++
}

func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uses--
	l.last = time.Now()
}

// idle returns for how long nobody has used the builder.
func (l *link) idle() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uses > 0 {
		return 0
	}
	return time.Since(l.last)
}

// close ends the link with all its connections.
func (l *link) close() {
	_ = l.server.Close()
	_ = l.session.Close()
	l.wg.Wait()
}

// execConn is the standard streams of a process in the builder's container.
type execConn struct {
	exec   *engine.ExecSession
	log    *slog.Logger
	in     *io.PipeWriter
	copied sync.WaitGroup
	ctx    context.Context // of reads; it ends with Close
	cancel context.CancelFunc
	rest   []byte
}

// dialExec starts the process that joins its streams to BuildKit's socket.
func dialExec(ctx context.Context, eng *engine.Engine, log *slog.Logger) (*execConn, error) {
	id, err := eng.ExecCreate(ctx, containerName, container.ExecCreateRequest{
		AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: []string{"/bin/connect", socket},
	})
	if err != nil {
		return nil, err
	}
	exec, err := eng.ExecStart(ctx, id, container.ExecStartRequest{})
	if err != nil {
		return nil, err
	}
	if err := exec.Started(ctx); err != nil {
		exec.Close()
		return nil, err
	}
	r, w := io.Pipe()
	c := &execConn{exec: exec, log: log, in: w}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.copied.Go(func() { _ = r.CloseWithError(exec.CopyStdin(r)) })
	return c, nil
}

// Read reads what the process writes; what it says of errors is logged.
func (c *execConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		chunk, err := c.exec.Client.Next(c.ctx)
		if err != nil {
			return 0, err
		}
		if chunk.Kind == stream.Stdout {
			c.rest = chunk.Data
			continue
		}
		c.log.Warn("builder's link", "said", strings.TrimSpace(string(chunk.Data)))
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write writes to the process.
func (c *execConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// Close ends the process's input, and with that the process.
func (c *execConn) Close() error {
	c.cancel()
	err := c.in.Close()
	c.copied.Wait()
	c.exec.Close()
	return err
}
