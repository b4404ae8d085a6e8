// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"byre.dev/byre/internal/guest/mount"
	"byre.dev/byre/internal/guest/netcfg"
	"byre.dev/byre/internal/guest/reap"
	"byre.dev/byre/internal/guest/stdio"
	"byre.dev/byre/internal/guest/task"
	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/p9/p9srv"
)

// Link is one connection to the host that carries streams; *mux.Session is one.
type Link interface {
	Dial(ctx context.Context, port uint32) (net.Conn, error)
	Listen(port uint32) (net.Listener, error)
	Done() <-chan struct{}
	Close() error
}

// Config is what an Agent needs.
type Config struct {
	// Build is the build version told in Hello.
	Build string
	// Features are told in Hello.
	Features []string
	// Runc is the path of the runc program.
	Runc string
	// Cards are the machine's; nil where unused ones are not hidden.
	Cards *netcfg.Cards
	// Reaper is PID 1's.
	Reaper *reap.Reaper
	// Stop ends all processes, giving them grace between TERM and KILL,
	// unmounts with the function given and syncs. It is called once.
	Stop func(grace time.Duration, unmount func(context.Context) error) error
	// Off turns the machine off. It is called once, after the answer to
	// PowerOff was sent.
	Off func()
	// Log is the guest's log; nil discards.
	Log *slog.Logger
}

// Agent is the guest agent. Use New.
type Agent struct {
	cfg    Config
	hub    *stdio.Hub
	mounts *mount.Manager
	tasks  *task.Service
	events *broadcaster
	memory *memoryWatch
	// locks are of files in volumes that other machines use.
	locks p9srv.Locks
	stop  sync.Once

	mu sync.Mutex
	// secret proves streams; all zeros before Renew. Guarded by mu.
	secret []byte
	// renewed is true once Renew has succeeded. Guarded by mu.
	renewed bool
	// link is the link being served, nil between links. Guarded by mu.
	link Link
}

// New returns an Agent that serves nothing yet.
func New(cfg Config) (*Agent, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		cfg: cfg, hub: stdio.NewHub(), events: newBroadcaster(),
		secret: make([]byte, guestapi.SecretSize),
	}
	a.mounts = mount.New(mount.Config{
		DialShare:  a.dialer("share", guestapi.PortShare),
		DialSocket: a.dialer("socket", guestapi.PortSocket), Log: cfg.Log,
	})
	var err error
	a.tasks, err = task.New(task.Config{
		Runc: cfg.Runc, Reaper: cfg.Reaper, Hub: a.hub, Log: cfg.Log,
		OOM: func(id string) { a.events.send(oomEvent(id)) },
	})
	if err != nil {
		return nil, fmt.Errorf("start task service: %w", err)
	}
	a.memory, err = watchMemory(func(e *guestapi.Event) { a.events.send(e) }, cfg.Log)
	if err != nil {
		return nil, errors.Join(err, a.tasks.Close())
	}
	return a, nil
}

// Serve answers the host on a link until the link breaks or ctx ends; it closes
// the link and returns when all its streams are done. It calls ready when it
// listens: what the host opened before would be lost.
func (a *Agent) Serve(ctx context.Context, link Link, ready func()) error {
	agent, err := link.Listen(guestapi.PortAgent)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for the host: %w", err), link.Close())
	}
	streams, err := link.Listen(guestapi.PortStdio)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for streams: %w", err), link.Close())
	}
	volumes, err := link.Listen(guestapi.PortVolume)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for other machines: %w", err), link.Close())
	}
	a.setLink(link)
	defer a.setLink(nil)
	ready()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { a.accept(ctx, &wg, agent, a.serveAgent) })
	wg.Go(func() { a.accept(ctx, &wg, streams, a.serveStream) })
	wg.Go(func() { a.accept(ctx, &wg, volumes, a.serveVolume) })
	select {
	case <-link.Done():
	case <-ctx.Done():
	}
	cancel()
	err = link.Close()
	agent.Close()
	streams.Close()
	volumes.Close()
	wg.Wait()
	a.hub.Reset()
	return err
}

func (a *Agent) setLink(l Link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link = l
}

func (a *Agent) accept(ctx context.Context, wg *sync.WaitGroup, l net.Listener, serve func(context.Context, net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { serve(ctx, conn) })
	}
}

// prefaceWait bounds how long a stream may take to say what it is for.
const prefaceWait = 10 * time.Second

// admit reads a stream's preface; it answers a bad one and closes the stream.
func (a *Agent) admit(conn net.Conn, port uint32) (name string, ok bool) {
	conn.SetDeadline(time.Now().Add(prefaceWait))
	secret, renewed := a.identity()
	p, err := guestapi.ReadPreface(conn, port, secret)
	if err == nil && port != guestapi.PortAgent && !renewed {
		err = errors.New("the machine has not been renewed")
	}
	if err == nil && port == guestapi.PortStdio {
		err = a.hub.Check(p.Name)
	}
	if err != nil {
		a.cfg.Log.Warn("stream refused", "port", port, "err", err)
		guestapi.Refuse(conn, err.Error())
		conn.Close()
		return "", false
	}
	if err := guestapi.Accept(conn); err != nil {
		conn.Close()
		return "", false
	}
	conn.SetDeadline(time.Time{})
	return p.Name, true
}

func (a *Agent) identity() (secret []byte, renewed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.secret, a.renewed
}

func (a *Agent) serveStream(_ context.Context, conn net.Conn) {
	name, ok := a.admit(conn, guestapi.PortStdio)
	if !ok {
		return
	}
	if err := a.hub.Put(name, conn); err != nil {
		a.cfg.Log.Warn("stream dropped", "stream", name, "err", err)
	}
}

// dialer returns what opens named streams to a port of the host; what says what
// they are for.
func (a *Agent) dialer(what string, port uint32) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, name string) (net.Conn, error) {
		conn, err := a.dialHost(ctx, guestapi.Preface{Port: port, Name: name})
		if err != nil {
			return nil, fmt.Errorf("open stream of %s %q: %w", what, name, err)
		}
		return conn, nil
	}
}

func (a *Agent) dialHost(ctx context.Context, p guestapi.Preface) (net.Conn, error) {
	a.mu.Lock()
	link, secret := a.link, a.secret
	a.mu.Unlock()
	if link == nil {
		return nil, errors.New("the guest link is down")
	}
	conn, err := link.Dial(ctx, p.Port)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if err := p.Open(conn, secret); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// StopAll ends everything in order: processes, mounts, caches. Only the first
// call does anything.
func (a *Agent) StopAll(grace time.Duration) (err error) {
	a.stop.Do(func() {
		a.hub.Close()
		err = errors.Join(
			a.cfg.Stop(grace, a.mounts.UnmountAll),
			a.mounts.Close(), a.tasks.Close(), a.memory.close())
	})
	return err
}
