// SPDX-License-Identifier: Apache-2.0

package initd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/agent"
	"byre.dev/byre/internal/guest/netcfg"
	"byre.dev/byre/internal/guest/reap"
	"byre.dev/byre/internal/guest/vport"
	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/mux"
)

// runcPath is where mkguest puts runc.
const runcPath = "/bin/runc"

// Main is the whole of PID 1. It never returns: it turns the machine off when
// the host asks for it, or after it has failed.
func Main(build string) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	s := &system{build: build, log: log}
	s.protect(s.run)
	off()
	select {} // the machine ends
}

// system is what PID 1 holds.
type system struct {
	build string
	log   *slog.Logger
	agent *agent.Agent
}

// protect runs f; when f fails or panics it reports and stops everything in
// order, once.
func (s *system) protect(f func() error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("guest failed", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
			s.stopAll()
		}
	}()
	if err := f(); err != nil {
		s.log.Error("guest failed", "err", err)
		s.stopAll()
	}
}

func (s *system) stopAll() {
	unmount := func(context.Context) error { return nil }
	var err error
	if s.agent != nil {
		err = s.agent.StopAll(time.Second)
	} else {
		err = stop(0, unmount)
	}
	if err != nil {
		s.log.Warn("the machine did not stop in order", "err", err)
	}
}

func (s *system) run() error {
	warnings, err := boot()
	if cerr := openConsole(); cerr != nil {
		s.log.Warn("console not opened", "err", cerr)
	}
	for _, w := range warnings {
		s.log.Warn("setting refused", "err", w)
	}
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	limits()
	reaper := reap.New()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wg.Go(func() { reaper.Run(ctx) })

	find, stopFind := context.WithTimeout(ctx, portWait)
	defer stopFind()
	dev, err := vport.Find(find, guestapi.LinkPortName)
	if err != nil {
		return fmt.Errorf("find guest link: %w", err)
	}
	features, err := probe(dev)
	if err != nil {
		return fmt.Errorf("probe guest link: %w", err)
	}
	cards, err := netcfg.HideCards()
	if err != nil {
		s.log.Warn("containers see all network cards", "err", err)
	}
	s.agent, err = agent.New(agent.Config{
		Build: s.build, Features: features, Runc: runcPath, Reaper: reaper, Cards: cards,
		Stop: stop, Off: off, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("start guest agent: %w", err)
	}
	return s.serveLinks(ctx, dev)
}

const (
	// portWait bounds the wait for the link's device at boot.
	portWait = 30 * time.Second
	// openWait bounds how long the host's opening of the port may lag behind
	// its first bytes.
	openWait = 2 * time.Second
)

// openConsole makes the console the standard streams.
func openConsole() error {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	defer unix.Close(fd)
	for i := range 3 {
		if fd == i {
			continue
		}
		if err := unix.Dup3(fd, i, 0); err != nil {
			return fmt.Errorf("open console: %w", err)
		}
	}
	return nil
}

// limits raises this process's limits, which its children start from, and
// bounds its heap: every clone of this machine copies the pages it touched.
func limits() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)
	files := &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	unix.Setrlimit(unix.RLIMIT_NOFILE, files) // the default serves too
}

func probe(dev string) ([]string, error) {
	f, err := vport.Open(dev)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if vport.TakesKernelIO(f) {
		return []string{guestapi.FeaturePort9P}, nil
	}
	return nil, nil
}

// serveLinks serves one link after the other.
func (s *system) serveLinks(ctx context.Context, dev string) error {
	for {
		conn, err := s.await(ctx, dev)
		if err != nil {
			return err
		}
		session, err := mux.Server(conn)
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		s.log.Info("host connected")
		if err := s.agent.Serve(ctx, session, conn.open); err != nil {
			s.log.Warn("link ended", "err", err)
		}
		s.log.Info("host disconnected")
	}
}

// await waits for the first bytes of a host. This is the moment at which the
// machine is saved as a template.
func (s *system) await(ctx context.Context, dev string) (*linkConn, error) {
	f, err := vport.Open(dev)
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	s.log.Info("guest agent waiting")
	first := make([]byte, 4096)
	n, err := vport.WaitData(f, first)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the host: %w", err), f.Close())
	}
	// The news that the host opened the port takes another queue than its bytes
	// and may come after them; until then a read finds the end of the link. A
	// host that has already gone is found by the next read.
	opened, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	if err := vport.WaitHost(opened, f); err != nil {
		s.log.Warn("host sent but did not stay", "err", err)
	}
	return &linkConn{File: f, first: first[:n], opened: make(chan struct{})}, nil
}

// linkConn is the link's port with the bytes that were read while waiting. It
// gives nothing to read before it is opened, so that no stream arrives before
// there is a listener for it.
type linkConn struct {
	*os.File
	first  []byte
	opened chan struct{}
	once   sync.Once
}

func (c *linkConn) open() { c.once.Do(func() { close(c.opened) }) }

// Close ends a read that waits as well.
func (c *linkConn) Close() error {
	err := c.File.Close()
	c.open()
	return err
}

var _ io.ReadWriteCloser = (*linkConn)(nil)

func (c *linkConn) Read(b []byte) (int, error) {
	<-c.opened
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.File.Read(b)
}

func fields(b []byte) []string { return strings.Fields(string(b)) }
