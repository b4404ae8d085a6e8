// SPDX-License-Identifier: Apache-2.0

// Package builder keeps the machine in which images are built: BuildKit (the
// module in builder/) in a container of an engine of its own, so that nothing of
// it is seen among the user's containers, volumes, images and events.
//
// The builder is started by the first connection and stopped when there has
// been none for a while. Its cache is an ext4 disk that outlives it; what builds
// delete is given back to the host. Daemon and builder are joined by one byte
// stream, the standard streams of a process in the container, which carries a
// mux: connections to BuildKit's control API one way, questions about the
// daemon's images (Images) the other. A daemon that ends in order stops its
// builder; one that was killed leaves it to the next, and without any it ends by
// itself.
//
// Locks: Builder.op is held while the builder is started or stopped. Builder.mu
// guards fields and is held across the opening of the engine, nothing else.
package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"byre.dev/byre/internal/engine"
)

// DefaultIdle is how long a builder without connections stays.
const DefaultIdle = 10 * time.Minute

// namespace is containerd's, of the builder's objects.
const namespace = "byre-builder"

// Config is what a Builder needs.
type Config struct {
	// Engine is what the builder's own engine is opened with. Home is the
	// directory of the builder's state; its namespace is set here.
	Engine engine.Config
	// Archive is the builder's image, a docker-archive. It need not be there
	// before the first build.
	Archive string
	// Images is what builds find by name before they ask registries.
	Images Images
	// Idle is how long a builder without connections stays; 0 means
	// DefaultIdle.
	Idle time.Duration
	// Environ has the variables whose proxies builds use, as os.Environ.
	Environ []string
	// Log receives state changes; nil discards them.
	Log *slog.Logger
}

// Builder runs the machine of builds. Its methods are safe for concurrent use.
type Builder struct {
	cfg Config
	log *slog.Logger

	// op is held while the builder is started or stopped.
	op chan struct{}
	// ctx ends when the builder closes; wg has what Close waits for.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// engine and current are guarded by mu; nil when not opened, not linked.
	engine  *engine.Engine
	current *link
}

// New returns a builder; nothing is started and no file made.
func New(cfg Config) *Builder {
	cfg.Engine.Namespace = namespace
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Builder{cfg: cfg, log: log, op: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Dial returns a connection to BuildKit's control API, gRPC without TLS, and
// starts the builder when none runs; ctx bounds the call. The caller closes the
// connection: while there is one the builder stays. When a builder dies its
// connections break, and the next Dial starts another on the same cache.
func (b *Builder) Dial(ctx context.Context) (net.Conn, error) {
	for again := true; ; again = false {
		l, err := b.hold(ctx)
		if err != nil {
			return nil, fmt.Errorf("start the builder: %w", err)
		}
		c, err := l.session.Dial(ctx, portControl)
		if err == nil {
			return &conn{Conn: c, release: sync.OnceFunc(l.release)}, nil
		}
		l.release()
		// That a builder died a moment ago may be learned by calling it.
		if !again || !l.ends(ctx) {
			return nil, fmt.Errorf("connect to the builder: %w", err)
		}
	}
}

// conn is a connection that keeps the builder.
type conn struct {
	net.Conn
	release func()
}

// Close ends the connection.
func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite ends what is sent; what comes can still be read.
func (c *conn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// hold returns the link with a use of it counted. A start that is under way
// when the daemon ends is given up.
func (b *Builder) hold(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	if err := b.lock(ctx); err != nil {
		return nil, err
	}
	defer b.unlock()
	if b.ctx.Err() != nil {
		return nil, errors.New("the daemon is ending")
	}
	if l := b.linked(); l != nil {
		l.use()
		return l, nil
	}
	l, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	l.use()
	b.setLink(l)
	b.wg.Go(func() { b.keep(l) })
	return l, nil
}

func (b *Builder) lock(ctx context.Context) error {
	select {
	case b.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *Builder) unlock() { <-b.op }

// linked returns the link if there is one that has not ended.
func (b *Builder) linked() *link {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == nil {
		return nil
	}
	select {
	case <-b.current.session.Done():
		return nil
	default:
		return b.current
	}
}

func (b *Builder) setLink(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = l
}

// keep shows the builder that the daemon is there, stops it when it has been
// idle for too long, and clears away when it is gone.
func (b *Builder) keep(l *link) {
	tick := time.NewTicker(min(b.cfg.Idle/4+time.Millisecond, time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-l.session.Done():
			b.log.Warn("builder lost")
			l.close()
			return
		case <-b.ctx.Done():
			l.close()
			return
		case <-tick.C:
			if l.show() == nil && b.stopIdle(l) {
				return
			}
		}
	}
}

// stopIdle stops the builder if nobody has used it for long enough.
func (b *Builder) stopIdle(l *link) bool {
	if l.idle() < b.cfg.Idle || b.lock(b.ctx) != nil {
		return false
	}
	defer b.unlock()
	// Somebody may have come while the lock was waited for.
	if l.idle() < b.cfg.Idle {
		return false
	}
	b.setLink(nil)
	l.close()
	eng, err := b.open(b.ctx)
	if err == nil {
		err = stop(b.ctx, eng)
	}
	if err != nil {
		b.log.Error("idle builder not stopped", "err", err)
	} else {
		b.log.Info("builder stopped", "idle", b.cfg.Idle)
	}
	return true
}

// Running tells whether there is a builder that this daemon is linked to.
func (b *Builder) Running() bool { return b.linked() != nil }

// DiskUsage returns what the cache's disk takes on the host, in bytes; 0 means
// that nothing was ever built.
func (b *Builder) DiskUsage() int64 {
	if !b.used() {
		return 0
	}
	eng, err := b.open(b.ctx)
	if err != nil {
		return 0
	}
	v, err := eng.Volumes.Get(cacheVolume)
	if err != nil {
		return 0
	}
	return v.Size()
}

// used tells whether there ever was a builder.
func (b *Builder) used() bool {
	_, err := os.Stat(b.cfg.Engine.Home)
	return !errors.Is(err, fs.ErrNotExist)
}

// open returns the builder's engine.
func (b *Builder) open(ctx context.Context) (*engine.Engine, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.engine != nil {
		return b.engine, nil
	}
	if err := os.MkdirAll(b.cfg.Engine.Home, 0o700); err != nil {
		return nil, err
	}
	eng, err := engine.New(ctx, b.cfg.Engine)
	if err != nil {
		return nil, err
	}
	b.engine = eng
	return eng, nil
}

// Close breaks the connections and stops the builder. ctx bounds the wait for
// what is under way.
func (b *Builder) Close(ctx context.Context) error {
	b.cancel()
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("close builder: %w", err)
	}
	defer b.unlock()
	b.wg.Wait()
	if !b.used() {
		return nil
	}
	eng, err := b.open(ctx)
	if err != nil {
		return fmt.Errorf("close builder: %w", err)
	}
	return errors.Join(stop(ctx, eng), eng.Close(ctx))
}
