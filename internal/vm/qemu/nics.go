// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/vm"
)

// nicCount is how many network cards a machine has: all are there at boot, each
// on a hub of QEMU's with nothing else on it. A switch is attached by putting a
// stream on the hub beside the card, at any time and as often as need be; the
// machine, and the template that it is a clone of, are the same with or without.
const nicCount = 4

// nics are a machine's network cards.
type nics struct {
	monitor *monitor

	mu sync.Mutex
	// The rest is guarded by mu. next numbers the back ends, so that none has
	// the name of one that is on its way out.
	next int
	// uplinks are the numbers of what each card's hub has beside the card, 0 for
	// nothing.
	uplinks [nicCount]int
}

func nicDevice(i int) string { return fmt.Sprintf("nic%d", i) }
func nicNetdev(i int) string { return fmt.Sprintf("net%d", i) }

// nicAddress is the address of a card as QEMU makes it.
func nicAddress(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i + 1)} }

func uplink(n int) string     { return fmt.Sprintf("uplink%d", n) }
func uplinkPort(n int) string { return fmt.Sprintf("uplinkport%d", n) }

// AttachNIC implements vm.Machine.
func (m *machine) AttachNIC(ctx context.Context, nic vm.NIC) (net.HardwareAddr, error) {
	card, err := m.nics.attach(ctx, nic)
	if err != nil {
		return nil, fmt.Errorf("attach network card: %w", err)
	}
	return card, nil
}

func (n *nics) attach(ctx context.Context, nic vm.NIC) (net.HardwareAddr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.uplinks[:], 0)
	if i < 0 {
		return nil, fmt.Errorf("the machine has its %d network cards: %w", nicCount, errdefs.ErrResourceExhausted)
	}
	socket, err := dialSwitch(nic.Socket)
	if err != nil {
		return nil, err
	}
	n.next++
	if err := errors.Join(n.plug(ctx, i, n.next, socket), socket.Close()); err != nil {
		return nil, err
	}
	n.uplinks[i] = n.next
	return nicAddress(i), nil
}

// plug puts a switch's connection on a card's hub (qapi/net.json of QEMU). The
// descriptor goes by its number in QEMU: a stream is connected by a thread of
// QEMU's that knows no names of the monitor's. It is the stream's from then on,
// so that the set which add-fd made of it is never asked to close it.
func (n *nics) plug(ctx context.Context, i, number int, socket *os.File) error {
	var added struct {
		FD int `json:"fd"`
	}
	if err := n.monitor.runWithFile(ctx, socket, "add-fd", struct{}{}, &added); err != nil {
		return err
	}
	name := uplink(number)
	stream := map[string]any{
		"type": "stream", "id": name, "server": false,
		"addr": map[string]any{"type": "fd", "str": strconv.Itoa(added.FD)},
	}
	if err := n.monitor.run(ctx, "netdev_add", stream, nil); err != nil {
		return err
	}
	port := map[string]any{"type": "hubport", "id": uplinkPort(number), "hubid": i, "netdev": name}
	if err := n.monitor.run(ctx, "netdev_add", port, nil); err != nil {
		return errors.Join(err, n.monitor.run(ctx, "netdev_del", deviceID{name}, nil))
	}
	if err := n.setLink(ctx, i, true); err != nil {
		return errors.Join(err, n.unplug(ctx, number))
	}
	return nil
}

// setLink raises or drops the link that the guest sees on a card.
func (n *nics) setLink(ctx context.Context, i int, up bool) error {
	return n.monitor.run(ctx, "set_link", map[string]any{"name": nicDevice(i), "up": up}, nil)
}

// unplug leaves a card alone on its hub.
func (n *nics) unplug(ctx context.Context, number int) error {
	if err := n.monitor.run(ctx, "netdev_del", deviceID{uplinkPort(number)}, nil); err != nil {
		return err
	}
	return n.monitor.run(ctx, "netdev_del", deviceID{uplink(number)}, nil)
}

// DetachNIC implements vm.Machine.
func (m *machine) DetachNIC(ctx context.Context, card net.HardwareAddr) error {
	if err := m.nics.detach(ctx, card); err != nil {
		return fmt.Errorf("detach network card %s: %w", card, err)
	}
	return nil
}

func (n *nics) detach(ctx context.Context, card net.HardwareAddr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, number := range n.uplinks {
		if number == 0 || !bytes.Equal(card, nicAddress(i)) {
			continue
		}
		if err := n.setLink(ctx, i, false); err != nil {
			return err
		}
		if err := n.unplug(ctx, number); err != nil {
			return err
		}
		n.uplinks[i] = 0
		return n.drop(ctx)
	}
	return errdefs.ErrNotFound
}

// drop has QEMU let go of frames that wait for a switch which is gone: the card
// would wait with them, and send nothing to the next switch. A machine drops
// them when it stops, for the few milliseconds that this takes.
func (n *nics) drop(ctx context.Context) error {
	err := n.monitor.run(ctx, "stop", nil, nil)
	// Whoever gives up must not leave the machine stopped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unplugLimit)
	defer cancel()
	return errors.Join(err, n.monitor.run(ctx, "cont", nil, nil))
}
