// SPDX-License-Identifier: Apache-2.0

// Package qemu is the driver that runs machines on QEMU: with KVM or the host's
// own acceleration where it works, with QEMU's software emulation (TCG)
// otherwise.
//
// A machine is a clone of a template: the driver boots one machine per kernel,
// initrd, QEMU and size class, saves it when its guest agent waits for the
// host, and starts every later one from a copy of the saved memory. Where that
// fails, machines are booted; the result is the same.
//
// The command line is made by a pure function (args.go); everything else
// reaches QEMU over its monitor and over sockets that it inherits, so that no
// name in the file system leads into a machine.
package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/vm"
)

const (
	// sizeClass is the memory that a machine starts with. Cloning copies the
	// kernel's page map, 1/64 of it.
	sizeClass = 1 << 30
	// bootLimit bounds a boot until the guest agent waits. A boot takes under a
	// second; a host that is short of everything gets a minute.
	bootLimit = 60 * time.Second
	// loadLimit bounds the load of a saved machine.
	loadLimit = 20 * time.Second
)

// Config describes the driver. Image is needed; the rest has defaults.
type Config struct {
	// Binary is QEMU's program; empty means the one on PATH for this host's
	// architecture.
	Binary string
	// StateDir is where templates and the result of the acceleration probe are
	// kept. Empty means that machines are booted and probed each time.
	StateDir string
	// Image is what machines boot from.
	Image guestimage.Image
	// Cmdline is the kernel's command line; empty means DefaultCmdline.
	Cmdline string
	// NoClone makes every machine boot.
	NoClone bool
	// Accel is the acceleration to use without asking: "kvm", "tcg", "hvf". Empty means
	// the best that works.
	Accel string
	// Log receives the driver's messages; nil discards them.
	Log *slog.Logger
}

// DefaultCmdline is the kernel's command line: the parameters of
// kernel/cmdline, which has the reason of each.
const DefaultCmdline = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check swiotlb=noforce" +
	" scsi_mod.scan=manual rcupdate.rcu_expedited=1 page_reporting.page_reporting_order=1 dummy.numdummies=0"

// Driver starts machines on QEMU. It holds no resources between calls.
type Driver struct {
	cfg     Config
	binary  string
	cpus    int
	hot     uint64
	version string
	// candidate tells which acceleration the host might have; probeLimit bounds
	// the boot that shows whether it does.
	candidate  func() (string, error)
	probeLimit time.Duration
}

var (
	_ vm.Driver     = (*Driver)(nil)
	_ vm.Identified = (*Driver)(nil)
)

// New looks QEMU up. It fails with an error that says what to install when
// there is none.
func New(cfg Config) (*Driver, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Cmdline == "" {
		cfg.Cmdline = DefaultCmdline
	}
	if cfg.Image.Kernel == "" {
		return nil, errors.New("start QEMU driver: no guest image given")
	}
	name := cfg.Binary
	if name == "" {
		name = Program()
	}
	binary, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("find QEMU: %w: %s", err, InstallAdvice)
	}
	if binary, err = filepath.EvalSymlinks(binary); err != nil {
		return nil, fmt.Errorf("find QEMU: %w: %s", err, InstallAdvice)
	}
	fi, err := os.Stat(binary)
	if err != nil {
		return nil, fmt.Errorf("find QEMU: %w: %s", err, InstallAdvice)
	}
	d := &Driver{cfg: cfg, binary: binary, cpus: runtime.NumCPU(), candidate: candidateAccel, probeLimit: probeLimit}
	d.version = fmt.Sprintf("%s %d %d", binary, fi.Size(), fi.ModTime().UnixNano())
	if total, err := hostMemory(); err == nil && total > sizeClass {
		d.hot = (total - sizeClass) / hotBlock * hotBlock
	}
	return d, nil
}

// Version asks QEMU for its version; an empty binary means the one on PATH.
func Version(ctx context.Context, binary string) (string, error) {
	if binary == "" {
		binary = Program()
	}
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask QEMU for its version: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

// Program is QEMU's program for this host's architecture.
func Program() string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return "qemu-system-" + arch
}

// Name implements vm.Driver.
func (d *Driver) Name() string { return "qemu" }

// Identity implements vm.Identified.
func (d *Driver) Identity() string {
	h := sha256.New()
	fmt.Fprintln(h, d.version, d.cfg.Image.Digests["vmlinux"], d.cfg.Image.Digests["initrd"])
	fmt.Fprintln(h, d.cfg.Cmdline, d.cfg.Accel, d.cfg.NoClone, d.cfg.StateDir, d.cpus, d.hot)
	return hex.EncodeToString(h.Sum(nil))
}

// Start implements vm.Driver.
func (d *Driver) Start(ctx context.Context, cfg vm.Config) (vm.Machine, error) {
	m, err := d.startMachine(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", cfg.Name, err)
	}
	return m, nil
}

func (d *Driver) startMachine(ctx context.Context, cfg vm.Config) (*machine, error) {
	watch := newStopwatch()
	accel, err := d.acceleration(ctx)
	if err != nil {
		return nil, err
	}
	watch.lap("acceleration")
	s := d.spec(cfg, accel)
	if !d.cfg.NoClone && d.cfg.StateDir != "" {
		t, err := d.template(ctx, s)
		if err == nil {
			watch.lap("template")
			m, err := d.clone(ctx, cfg, s, t, watch)
			if err == nil || ctx.Err() != nil {
				return m, err
			}
			d.cfg.Log.Warn("machine could not be cloned, booting it", "err", err)
		} else if ctx.Err() != nil {
			return nil, err
		} else {
			d.cfg.Log.Warn("no template to clone machines from, booting this one", "err", err)
		}
	}
	return d.boot(ctx, cfg, s, watch)
}

func (d *Driver) spec(cfg vm.Config, accel string) spec {
	cpus := cfg.CPUs
	if cpus == 0 {
		cpus = d.cpus
	}
	return spec{name: cfg.Name, accel: accel, cpus: cpus, warm: cfg.Warm, memory: sizeClass, hotMemory: d.hot, nics: nicCount}
}

// bootable returns s with what a machine boots from.
func (d *Driver) bootable(s spec) spec {
	s.kernel, s.initrd, s.cmdline = d.cfg.Image.Kernel, d.cfg.Image.Initrd, d.cfg.Cmdline
	return s
}

// boot starts a machine the long way and waits for its guest agent.
func (d *Driver) boot(ctx context.Context, cfg vm.Config, s spec, watch *stopwatch) (_ *machine, err error) {
	memory, err := newMemoryFile(s.memory)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	h := &eventHolder{}
	p, err := start(ctx, launch{binary: d.binary, spec: d.bootable(s), memory: memory, onEvent: h.event})
	if err != nil {
		return nil, err
	}
	watch.lap("exec")
	if err := p.awaitAgent(ctx, bootLimit); err != nil {
		return nil, errors.Join(err, p.close())
	}
	watch.lap("boot")
	return d.adopt(p, h, cfg, s, false, watch)
}

// adopt makes a machine of a process whose guest agent waits.
func (d *Driver) adopt(p *process, h *eventHolder, cfg vm.Config, s spec, cloned bool, watch *stopwatch) (*machine, error) {
	limit := s.memory + s.hotMemory
	if cfg.MaxMemory != 0 {
		limit = max(min(limit, cfg.MaxMemory), s.memory)
	}
	log := cfg.Log
	if log == nil {
		log = d.cfg.Log
	}
	info := vm.Info{Driver: d.Name(), Accel: s.accel, Cloned: cloned, Stages: watch.stages}
	m, err := newMachine(p, info, s.memory, limit, log)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	h.give(m.event)
	return m, nil
}

// awaitAgent waits until the guest agent waits for the host.
func (p *process) awaitAgent(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest agent does not come up within %v", limit))
	defer cancel()
	select {
	case <-p.console.waiting:
		return nil
	case <-p.proc.Done():
		return p.explain(fmt.Errorf("boot: machine ended%s", p.consoleText()))
	case <-ctx.Done():
		return p.explain(fmt.Errorf("boot: %w%s", context.Cause(ctx), p.consoleText()))
	}
}

// consoleText is the end of the guest's console, escaped, for an error.
func (p *process) consoleText() string {
	const show = 1 << 10
	b := p.console.bytes()
	if len(b) == 0 {
		return "; the guest wrote nothing to its console"
	}
	if len(b) > show {
		b = b[len(b)-show:]
	}
	return fmt.Sprintf("; its console ends: %q", b)
}
