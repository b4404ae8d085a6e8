// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
)

const (
	// gcPercent trades time for memory: a shim is one of many and mostly waits.
	gcPercent = 40
	// unusedWait is how long a shim that no container was asked of stays.
	unusedWait = 2 * time.Minute
	// settleAfter is when a shim and its machine give back what a start took.
	settleAfter = 3 * time.Second
	// serverWait bounds the end of calls that are under way.
	serverWait = 500 * time.Millisecond
)

// serve is the shim proper: it claims its sandbox and answers until it is told
// to end.
func (c *call) serve(ctx context.Context) error {
	debug.SetGCPercent(gcPercent)
	log, err := openLog(c.bundle, c.debug)
	if err != nil {
		return err
	}
	log = log.With("namespace", c.namespace)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	keepOnBrokenPipe()
	if err := markShim(c.bundle); err != nil {
		return fmt.Errorf("mark bundle: %w", err)
	}
	l, err := serveSocket(c.socket)
	if err != nil {
		return err
	}
	return c.answerCalls(ctx, log, signals, l, nil)
}

// answerCalls serves on l, with the machine of a spare shim where there is one,
// until it is told to end.
func (c *call) answerCalls(ctx context.Context, log *slog.Logger, signals <-chan os.Signal, l net.Listener, spare *sandbox.Spare) error {
	ctx, exit := context.WithCancel(ctx)
	defer exit()
	s := newService(c, log, exit)
	s.claim.spare = spare
	s.claim.begin()
	server, err := ttrpc.NewServer(serverOptions()...)
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	taskapi.RegisterTTRPCTaskService(server, s)
	shimapi.RegisterShimService(server, &api{s})
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.WithoutCancel(ctx), l) }() // received below
	s.hide = func() {
		s.hidden.Store(true)
		c.removeSocket()
		_ = l.Close()
	}
	err = s.run(ctx, signals, served)
	err = errors.Join(err, s.close())
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverWait)
	defer cancel()
	_ = server.Shutdown(end) // what it cuts off is what waits for us to end
	_ = server.Close()
	if !s.hidden.Load() { // another shim's may be there
		c.removeSocket()
	}
	if err != nil {
		log.Error("shim ended", "err", err)
	}
	return err
}

func newService(c *call, log *slog.Logger, exit func()) *Service {
	s := &Service{
		namespace: c.namespace, log: log, containers: map[string]*container{}, started: make(chan struct{}, 1),
		events: newPublisher(c.namespace, os.Getenv("TTRPC_ADDRESS"), log),
	}
	var once sync.Once
	s.exit = func() { once.Do(exit) }
	s.claim = &claim{
		cfg: c.cfg, id: c.id, bundle: c.bundle, timeline: sandbox.NewTimeline(c.began), log: log,
		onOOM: s.oomKilled, onReturned: s.exitIfDone,
	}
	return s
}

// run returns when the shim is to end.
func (s *Service) run(ctx context.Context, signals <-chan os.Signal, served <-chan error) error {
	unused := time.NewTimer(unusedWait)
	defer unused.Stop()
	settle := time.NewTimer(settleAfter)
	settle.Stop() // until a container starts
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-signals:
			s.log.Info("shim ends on a signal", "signal", sig.String())
			return nil
		case err := <-served:
			if s.hidden.Load() {
				continue
			}
			return fmt.Errorf("serve: %w", err)
		case <-s.started:
			settle.Reset(settleAfter)
		case <-settle.C:
			s.work.Go(func() { s.settle(ctx) })
		case <-unused.C:
			s.mu.Lock()
			used := s.used
			s.mu.Unlock()
			if !used {
				s.log.Warn("shim ends: nobody asked for a container")
				return nil
			}
		}
	}
}

// settle gives back the memory that a container's start took.
func (s *Service) settle(ctx context.Context) {
	if sb, err := s.claim.wait(ctx); err == nil {
		sb.Settle(ctx)
	}
	debug.FreeOSMemory()
}

// removeSocket removes the socket's file, where it is one.
func (c *call) removeSocket() {
	if c.socket != "" && c.socket[0] == '/' {
		_ = os.Remove(c.socket) // delete removes what stays
	}
}
