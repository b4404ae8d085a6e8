// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/containerd/errdefs"
)

// maxPorts is what virtio-serial-pci with max_ports=31 has, less port 0, which
// is kept for consoles, and the guest link's.
const maxPorts = 29

// ports are a machine's hot-plugged virtio-serial ports.
type ports struct {
	monitor *monitor

	mu sync.Mutex
	// The rest is guarded by mu. next numbers the devices, so that none has
	// the name of one that is on its way out.
	next   int
	byName map[string]port
}

// port is one that is plugged in: the number of its device, and our end.
type port struct {
	number int
	conn   net.Conn
}

// AddPort implements vm.Machine.
func (m *machine) AddPort(ctx context.Context, name string) (net.Conn, error) {
	conn, err := m.ports.add(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("add port %s: %w", name, err)
	}
	return conn, nil
}

func (p *ports) add(ctx context.Context, name string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.byName[name]; taken {
		return nil, errdefs.ErrAlreadyExists
	}
	if len(p.byName) >= maxPorts {
		return nil, fmt.Errorf("the machine has its %d ports: %w", maxPorts, errdefs.ErrResourceExhausted)
	}
	conn, theirs, err := socketPair(name)
	if err != nil {
		return nil, err
	}
	p.next++
	err = errors.Join(p.plug(ctx, p.next, name, theirs), theirs.Close())
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if p.byName == nil {
		p.byName = map[string]port{}
	}
	p.byName[name] = port{p.next, conn}
	return conn, nil
}

func portDevice(n int) string  { return fmt.Sprintf("port%d", n) }
func portChardev(n int) string { return fmt.Sprintf("portchr%d", n) }

// plug gives QEMU the socket and the device that leads to it
// (qapi/char.json of QEMU).
func (p *ports) plug(ctx context.Context, n int, name string, socket *os.File) error {
	fdName := portChardev(n)
	if err := p.monitor.runWithFile(ctx, socket, "getfd", map[string]any{"fdname": fdName}, nil); err != nil {
		return err
	}
	chardev := map[string]any{
		"id": portChardev(n),
		"backend": map[string]any{
			"type": "socket",
			"data": map[string]any{
				"server": false,
				"addr":   map[string]any{"type": "fd", "data": map[string]any{"str": fdName}},
			},
		},
	}
	if err := p.monitor.run(ctx, "chardev-add", chardev, nil); err != nil {
		return err
	}
	device := map[string]any{
		"driver": "virtserialport", "id": portDevice(n), "bus": serialID + ".0",
		"chardev": portChardev(n), "name": name,
	}
	if err := p.monitor.run(ctx, "device_add", device, nil); err != nil {
		return errors.Join(err, p.monitor.run(ctx, "chardev-remove", deviceID{portChardev(n)}, nil))
	}
	return nil
}

// RemovePort implements vm.Machine.
func (m *machine) RemovePort(ctx context.Context, name string) error {
	if err := m.ports.remove(ctx, name); err != nil {
		return fmt.Errorf("remove port %s: %w", name, err)
	}
	return nil
}

func (p *ports) remove(ctx context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone, ok := p.byName[name]
	if !ok {
		return errdefs.ErrNotFound
	}
	if err := unplugDevice(ctx, p.monitor, portDevice(gone.number)); err != nil {
		return err
	}
	delete(p.byName, name) // our end is the caller's
	return p.monitor.run(ctx, "chardev-remove", deviceID{portChardev(gone.number)}, nil)
}

// close closes our ends of the ports, whose other ends died with QEMU.
func (p *ports) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, open := range p.byName {
		if cerr := open.conn.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	clear(p.byName)
	return err
}
