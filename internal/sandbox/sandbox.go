// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/vm"
)

// Config describes a sandbox.
type Config struct {
	// ID names the sandbox: the ID of its first container.
	ID string
	// Driver starts the machine.
	Driver vm.Driver
	// Spare, when not nil, is a machine kept warm that is taken in the place of
	// one that Driver starts. Start owns it, and starts another machine when it
	// turns out to be no good.
	Spare *Spare
	// warm is set by Warm.
	warm bool
	// Network says how the machine is connected; nil means loopback alone.
	Network *shimapi.Network
	// Hostname of the machine where Network names none.
	Hostname string
	// CPUs and MaxMemory are vm.Config's.
	CPUs      int
	MaxMemory uint64
	// Scratch is the template of scratch disks, an ext4 image.
	Scratch string
	// Dir is a directory of the host where the sandbox may keep files; it is
	// the caller's to remove.
	Dir string
	// SidecarDir is where shares keep the metadata of files that cannot carry
	// it, and in locks/ the files in which the servers of one user keep each
	// other's locks apart; empty means nowhere.
	SidecarDir string
	// Watches bounds the directories that the host is asked to tell of for the
	// machine's shares, -1 for none; 0 means a quarter of what it grants. Others
	// are compared from time to time.
	Watches int
	// Build is the version of the host's programs, told to the guest.
	Build string
	// OnOOM is called when the guest reports that a container was killed for
	// want of memory; it must not block. Nil ignores such reports.
	OnOOM func(containerID string)
	// OnReturned is called when volumes that a sandbox without containers has lent
	// are no longer borrowed: it may be closed. It must not block. Nil ignores
	// that.
	OnReturned func()
	// Timeline records the stages of the start; nil records nothing.
	Timeline *Timeline
	// Log receives the sandbox's messages; nil discards them.
	Log *slog.Logger
}

// Sandbox is a running utility VM with its containers. Its methods are safe
// for concurrent use.
type Sandbox struct {
	cfg     Config
	log     *slog.Logger
	machine vm.Machine
	link    *link
	// base is the machine's memory at its start, in bytes.
	base uint64
	// configured is closed when the network is configured or has failed to
	// be; networkErr is set before.
	configured chan struct{}
	networkErr error
	net        network
	// setup is held, as a semaphore of one, by whoever changes disks and mounts.
	setup    chan struct{}
	disks    diskTable
	shares   shareTable
	sockets  socketTable
	volumes  volumeTable
	archives archives
	locks    p9srv.Locks
	watches  watchBudget
	// working ends when stop is called, and with it the background work, which
	// work waits for.
	working context.Context //nolint:containedctx // the sandbox's life, not a call's
	stop    context.CancelFunc
	// lending ends when endLoans is called, and with it the loans of volumes.
	lending  context.Context //nolint:containedctx // the loans' life, not a call's
	endLoans context.CancelFunc
	work     sync.WaitGroup

	mu sync.Mutex
	// containers by ID. Guarded by mu.
	containers map[string]*Container
	closed     bool
	closeOnce  sync.Once
	closeErr   error
}

// agentWait bounds how long a machine that runs may take to answer its first
// call.
const agentWait = 60 * time.Second

// Start claims a machine, proves that it is ours alone and configures its
// network. ctx bounds the call, not the sandbox. A Start that fails leaves
// nothing behind; its error holds the end of the machine's console.
func Start(ctx context.Context, cfg Config) (*Sandbox, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnReturned == nil {
		cfg.OnReturned = func() {}
	}
	log := cfg.Log.With("sandbox", cfg.ID)
	m, l, err := claim(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start sandbox %s: %w", cfg.ID, err)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Sandbox{
		cfg: cfg, log: log, machine: m, link: l, base: m.Memory(), working: work, stop: stop,
		configured: make(chan struct{}), setup: make(chan struct{}, 1), containers: map[string]*Container{},
	}
	s.lending, s.endLoans = context.WithCancel(work)
	s.disks.byKey = map[diskKey]*pluggedDisk{}
	s.watches.limitTo(cfg.Watches)
	s.work.Go(func() { s.configureNetwork(work) })
	s.work.Go(func() { s.watch(work) })
	s.work.Go(func() { s.shrink(work) })
	s.work.Go(func() { s.keepClock(work) })
	if err := s.serveLinkShares(work); err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox %s: %w", cfg.ID, err), s.Close())
	}
	info := m.Info()
	log.Info("sandbox started", "driver", info.Driver, "accel", info.Accel, "cloned", info.Cloned, "spare", cfg.Spare != nil && m == cfg.Spare.machine)
	return s, nil
}

// claim takes the spare machine, or starts one.
func claim(ctx context.Context, cfg Config) (vm.Machine, *link, error) {
	if cfg.Spare != nil {
		end := cfg.Timeline.Begin("spare")
		err := cfg.Spare.renew(ctx, cfg)
		end()
		if err == nil {
			return cfg.Spare.machine, cfg.Spare.link, nil
		}
		cfg.Log.Warn("spare machine is no good, starting another", "sandbox", cfg.ID, "err", errors.Join(err, cfg.Spare.Close()))
	}
	end := cfg.Timeline.Begin("machine")
	m, err := cfg.Driver.Start(ctx, vm.Config{
		Name: cfg.ID, CPUs: cfg.CPUs, MaxMemory: cfg.MaxMemory, Warm: cfg.warm, Log: cfg.Log,
	})
	end()
	if err != nil {
		return nil, nil, err
	}
	end = cfg.Timeline.Begin("greet")
	l, err := greet(ctx, m, cfg)
	end()
	if err != nil {
		err = withConsole(err, m)
		return nil, nil, errors.Join(err, m.Close())
	}
	return m, l, nil
}

// ID returns the sandbox's name.
func (s *Sandbox) ID() string { return s.cfg.ID }

// Task is containerd's Task service in the guest. Containers are created by
// Create, not by the service; everything else goes to it directly.
func (s *Sandbox) Task() taskapi.TTRPCTaskService { return s.link.task }

// Machine returns the utility VM, for what it can tell of itself.
func (s *Sandbox) Machine() vm.Machine { return s.machine }

// Kernel and Features are what the guest said of itself.
func (s *Sandbox) Kernel() (release string, features []string) {
	return s.link.kernel, s.link.features
}

// Memory asks the guest for its memory.
func (s *Sandbox) Memory(ctx context.Context) (*guestapi.MemoryResponse, error) {
	return s.link.guest.Memory(ctx, &guestapi.MemoryRequest{})
}

// Containers lists the IDs of the sandbox's containers, sorted.
func (s *Sandbox) Containers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.containers))
	for id := range s.containers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Container returns a container by its ID.
func (s *Sandbox) Container(id string) (*Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// lockSetup waits for the right to change disks and mounts.
func (s *Sandbox) lockSetup(ctx context.Context) error {
	select {
	case s.setup <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Sandbox) unlockSetup() { <-s.setup }

// Done is closed when the machine has ended.
func (s *Sandbox) Done() <-chan struct{} { return s.machine.Done() }

// Explain adds to an error of a call what is known when the machine has ended:
// why, and the end of its console.
func (s *Sandbox) Explain(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-s.machine.Done():
		return withConsole(err, s.machine)
	default:
		return err
	}
}

const (
	// powerOffGrace is what processes get between SIGTERM and SIGKILL when a
	// sandbox with containers is closed.
	powerOffGrace = 2 * time.Second
	// powerOffWait bounds the whole orderly end.
	powerOffWait = 10 * time.Second
)

// Close ends the sandbox: in order while containers are there, at once when
// none is left and all disks are flushed. It is idempotent and returns when
// everything is released.
func (s *Sandbox) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Sandbox) close() error {
	s.mu.Lock()
	s.closed = true
	left := make([]*Container, 0, len(s.containers))
	for _, c := range s.containers {
		left = append(left, c)
	}
	s.mu.Unlock()
	s.recall()
	if len(left) > 0 || s.disks.dirty() {
		s.powerOff()
	}
	s.stop()
	errs := []error{s.link.close(), s.machine.Close(), s.volumes.unlock()}
	s.shares.closeAll()
	for _, c := range left {
		errs = append(errs, c.discard())
	}
	s.work.Wait()
	s.log.Info("sandbox stopped")
	return errors.Join(errs...)
}

// powerOff asks the guest to end in order and waits for it, within bounds.
func (s *Sandbox) powerOff() {
	ctx, cancel := context.WithTimeout(context.Background(), powerOffWait)
	defer cancel()
	_, err := s.link.guest.PowerOff(ctx, &guestapi.PowerOffRequest{GraceMs: uint32(powerOffGrace.Milliseconds())})
	if err == nil {
		select {
		case <-s.machine.Done():
			return
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	select {
	case <-s.machine.Done():
	default:
		s.log.Warn("machine did not power off in order", "err", err)
	}
}
