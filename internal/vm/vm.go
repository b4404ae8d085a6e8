// SPDX-License-Identifier: Apache-2.0

// Package vm says what a utility VM is: the small Linux machine that carries
// one sandbox.
//
// A [Driver] starts machines from a [Config], which is a plain value and whole:
// nothing is configured after Start, and a [Machine] exists only once it runs.
// What changes while a machine runs is plugged into it: disks, ports, network
// cards, memory.
//
// Ownership: the caller of Start owns the machine and must Close it. Close ends
// the machine at once, whatever the guest does; an orderly end is the guest
// agent's business (Guest.PowerOff) and shows as [Machine.Done]. A machine dies
// with the process that started it.
//
// The guest is hostile to the host. Nothing in this package's interfaces takes
// a path, size or identifier that a guest made.
package vm

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"
)

// Config describes a machine. The zero value of every field is sensible.
type Config struct {
	// Name is for logs, process lists and errors; it need not be unique.
	Name string
	// CPUs is the number of virtual CPUs; 0 means the driver's default.
	CPUs int
	// MaxMemory bounds in bytes what the machine may grow to by hot-add; 0
	// means the driver's default, which follows the host's memory. The
	// machine starts with the driver's size class whatever MaxMemory is.
	MaxMemory uint64
	// Warm says that the machine is used before it is its sandbox's: emulation
	// keeps more of what it learns by that.
	Warm bool
	// Log receives the driver's messages; nil discards them.
	Log *slog.Logger
}

// NIC is where a network card of a machine is attached.
type NIC struct {
	// Socket is the Unix socket of a switch port. Frames are Ethernet, each
	// behind its length as four bytes, big-endian (QEMU's stream framing). It
	// is a stream or, on Linux, better a socket of packets ("unixpacket"), each
	// of at most 68 KiB.
	Socket string
}

// Driver starts machines.
type Driver interface {
	// Name is the driver's name for logs and doctor: "qemu", "hcs".
	Name() string
	// Start returns a running machine whose guest agent is waiting on the
	// guest link, not yet greeted. ctx bounds the call, not the machine. A
	// Start that fails leaves nothing behind.
	Start(ctx context.Context, cfg Config) (Machine, error)
}

// Identified is a driver that can say whether a machine of another process's
// driver is as its own would be.
type Identified interface {
	// Identity names everything that a machine depends on but its Config.
	Identity() string
}

// Machine is a running utility VM. Its methods are safe for concurrent use.
type Machine interface {
	// Dial opens a stream to a vsock port of the guest. The guest may refuse
	// it; then the first read fails.
	Dial(ctx context.Context, port uint32) (net.Conn, error)
	// Listen takes streams that the guest opens to a vsock port of the host.
	// Ports nobody listens on are refused. The listener ends with the machine.
	Listen(port uint32) (net.Listener, error)

	// AttachDisk plugs a disk in and returns the LUN by which the guest finds
	// it. The disk stays attached until DetachDisk or the machine's end.
	AttachDisk(ctx context.Context, d Disk) (lun uint32, err error)
	// DetachDisk unplugs the disk; the guest must have unmounted it before.
	DetachDisk(ctx context.Context, lun uint32) error

	// AddPort plugs in a byte stream of its own that the guest finds by name
	// (/sys/class/virtio-ports/*/name), and returns the host's end, which the
	// caller owns. It fails with errdefs' ErrResourceExhausted when the
	// machine has no place for more, and with ErrNotImplemented on drivers
	// that have no such device: callers then use a stream of the link.
	AddPort(ctx context.Context, name string) (net.Conn, error)
	// RemovePort unplugs the port named.
	RemovePort(ctx context.Context, name string) error

	// AttachNIC connects a network card to a switch and raises its link. It
	// returns the card's own hardware address, by which the guest finds it
	// whatever address it gives the link later. A card that was in the machine
	// without a switch is taken first; where there is none and none can be
	// plugged in, AttachNIC fails with errdefs' ErrResourceExhausted and says
	// how many the machine has. When the switch ends, the card stays and
	// carries nothing until it is detached.
	AttachNIC(ctx context.Context, nic NIC) (net.HardwareAddr, error)
	// DetachNIC takes the card from its switch: the switch sees the connection
	// end, the guest sees the link go down or the card leave.
	DetachNIC(ctx context.Context, card net.HardwareAddr) error

	// Memory returns what the guest may use at present, in bytes.
	Memory() uint64
	// SetMemory grows or shrinks that towards size bytes, within the bounds of
	// the size class and Config.MaxMemory. Shrinking is a request: the guest
	// gives back what it can.
	SetMemory(ctx context.Context, size uint64) error

	// Info describes the machine for logs, inspect and doctor.
	Info() Info
	// Console returns the tail of what the guest wrote to its console, up to
	// ConsoleTail bytes; the bytes are the guest's and must be escaped before
	// they are shown.
	Console() []byte
	// Done is closed when the machine has ended, for whatever reason.
	Done() <-chan struct{}
	// Err says why the machine ended; nil before Done and after an orderly
	// power-off.
	Err() error
	// Close ends the machine and releases all it owned. It is idempotent and
	// returns when everything is gone.
	Close() error
}

// ConsoleTail is how many bytes of console output a machine keeps.
const ConsoleTail = 64 << 10

// Disk is a disk image to be plugged in.
type Disk struct {
	// Path names the image on the host; its format is raw.
	Path string
	// ReadOnly keeps the guest from writing. Several machines may share an
	// image read-only; a writable image belongs to one machine.
	ReadOnly bool
}

// Info describes a running machine.
type Info struct {
	// Driver is the name of the driver that runs it.
	Driver string
	// Accel is the acceleration in use: "kvm", "tcg", "whpx", "hvf", "hcs".
	Accel string
	// Cloned is true when the machine was started from a saved template.
	Cloned bool
	// PID is the host process that carries the machine, 0 where there is none.
	PID int
	// Stages are the parts of Start with their durations, in order.
	Stages []Stage
}

// Stage is one measured part of a start.
type Stage struct {
	// Name is a short noun: "template", "exec", "migrate", "boot".
	Name string
	// Took is how long it lasted.
	Took time.Duration
}

var _ io.Closer = Machine(nil)
