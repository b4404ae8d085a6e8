// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// nic is a network card of the machine.
type nic struct {
	name    string
	ifindex int
	// device is the card's own hardware address.
	device net.HardwareAddr
}

// nicWait bounds the wait for a card that was just plugged in.
const nicWait = 10 * time.Second

// sysNet is where the kernel says which links stand on a device.
const sysNet = "/sys/class/net"

// awaitNIC returns the card that a link is about, by its own address or by its
// position.
func (c *conn) awaitNIC(ctx context.Context, l *guestapi.Link) (nic, error) {
	ctx, cancel := context.WithTimeout(ctx, nicWait)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		all, err := c.nics(sysNet)
		if err != nil {
			return nic{}, err
		}
		if found, ok := pick(all, l); ok {
			return found, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nic{}, fmt.Errorf("none of the machine's %d network cards is it: %w", len(all), errdefs.ErrNotFound)
		}
	}
}

// carrierWait bounds the wait for a carrier that is to come any moment.
const carrierWait = time.Second

// awaitCarrier waits for the carrier of a card that is up: the host has connected
// it, and the driver is about to hear of that. In Linux 6.12 virtnet_close forgets
// what virtio_net has not heard yet, so that a card which is taken down just then
// never has a carrier again. dir is where the kernel tells of links.
func (n nic) awaitCarrier(ctx context.Context, dir string) error {
	end := time.Now().Add(carrierWait)
	for wait := time.Millisecond; time.Now().Before(end); wait = min(2*wait, 20*time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(dir, n.name, "carrier"))
		if errors.Is(err, unix.EINVAL) { // it is down
			return nil
		}
		if err != nil {
			return fmt.Errorf("carrier of %s: %w", n.name, err)
		}
		if !bytes.HasPrefix(b, []byte("0")) {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("carrier of %s: %w", n.name, ctx.Err())
		}
	}
	return nil // there is no switch, and the link is set up all the same
}

func pick(all []nic, l *guestapi.Link) (nic, bool) {
	if len(l.Device) != 0 {
		i := slices.IndexFunc(all, func(n nic) bool { return bytes.Equal(n.device, l.Device) })
		if i < 0 {
			return nic{}, false
		}
		return all[i], true
	}
	if int(l.Index) >= len(all) {
		return nic{}, false
	}
	return all[l.Index], true
}

// nics lists the links that stand on a device, in the kernel's order; dir is
// where the kernel says which do.
func (c *conn) nics(dir string) ([]nic, error) {
	links, err := c.links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links = slices.DeleteFunc(links, func(n nic) bool {
		found, _ := filepath.Glob(filepath.Join(dir, n.name, "device"))
		return len(found) == 0
	})
	slices.SortFunc(links, byIndex)
	return links, nil
}

func byIndex(a, b nic) int { return cmp.Compare(a.ifindex, b.ifindex) }

// parseNIC reads what the kernel says of one link.
func parseNIC(b []byte) (nic, bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return nic{}, false
	}
	n := nic{ifindex: int(binary.NativeEndian.Uint32(b[4:]))}
	attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			n.name = string(bytes.TrimRight(value, "\x00"))
		case unix.IFLA_PERM_ADDRESS:
			n.device = slices.Clone(value)
		}
	})
	return n, n.name != ""
}
