// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// loopback is the number of the loopback link of every network namespace.
const loopback = 1

// Loopback brings the loopback link up; the kernel gives it its addresses.
func Loopback() error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.setUp(loopback, 0, nil); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// Configure sets up the links, sets the network's sysctls and writes the files.
// A request that names no host and no resolver leaves the files as they are.
func (k *Cards) Configure(ctx context.Context, r *guestapi.NetworkRequest) error {
	files, err := etcFiles(r)
	if err != nil {
		return err
	}
	for _, l := range r.Links {
		if err := k.configureLink(ctx, l); err != nil {
			return fmt.Errorf("link %d: %w", l.Index, err)
		}
	}
	if err := k.hideUnused(); err != nil {
		return err
	}
	// After the links, so that what the request sets for one of them stays.
	if err := SetSysctls(r.Sysctls); err != nil {
		return err
	}
	if r.Hostname == "" && len(r.Nameservers) == 0 && len(r.Hosts) == 0 {
		return nil
	}
	return writeFiles(filepath.Join(guestapi.RuntimeDir, "etc"), files)
}

func (k *Cards) configureLink(ctx context.Context, l *guestapi.Link) error {
	prefixes, gateway, err := parseLink(l)
	if err != nil {
		return err
	}
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	if err := k.show(c, l); err != nil {
		return err
	}
	n, err := c.awaitNIC(ctx, l)
	if err != nil {
		return err
	}
	switch l.Change {
	case guestapi.Link_SET_UP:
		k.note(n, true)
		if err := n.awaitCarrier(ctx, sysNet); err != nil {
			return err
		}
		if err := c.setUpLink(n, l, prefixes); err != nil {
			return err
		}
	case guestapi.Link_TAKE_DOWN:
		k.note(n, false)
		return c.takeDown(n)
	case guestapi.Link_ROUTE:
	default:
		return fmt.Errorf("change %v: %w", l.Change, errdefs.ErrInvalidArgument)
	}
	return c.setDefaultRoute(n, gateway)
}

// setUpLink makes a link what the request says, but for its default route.
func (c *conn) setUpLink(n nic, l *guestapi.Link, prefixes []netip.Prefix) error {
	// A link's hardware address is set while it is down.
	if err := c.takeDown(n); err != nil {
		return err
	}
	if err := ignoreAdvertisements(n.name); err != nil {
		return err
	}
	if err := c.setUp(n.ifindex, l.Mtu, l.Mac); err != nil {
		return fmt.Errorf("bring %s up: %w", n.name, err)
	}
	for _, p := range prefixes {
		if err := c.addAddress(n.ifindex, p); err != nil {
			return fmt.Errorf("add address %v to %s: %w", p, n.name, err)
		}
	}
	return nil
}

// takeDown leaves a link down and without addresses: those of another network
// must not stay with the card.
func (c *conn) takeDown(n nic) error {
	if err := c.setDown(n.ifindex); err != nil {
		return fmt.Errorf("take %s down: %w", n.name, err)
	}
	held, err := c.addresses(n.ifindex)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", n.name, err)
	}
	for _, p := range held {
		// The kernel takes those away itself that stand on one that went before.
		if err := c.removeAddress(n.ifindex, p); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %v from %s: %w", p, n.name, err)
		}
	}
	return nil
}

// setDefaultRoute routes everything over a gateway; an invalid one takes the
// link's default route away.
func (c *conn) setDefaultRoute(n nic, gateway netip.Addr) error {
	if gateway.IsValid() {
		if err := c.addDefaultRoute(n.ifindex, gateway); err != nil {
			return fmt.Errorf("add default route by %v: %w", gateway, err)
		}
		return nil
	}
	if err := c.removeDefaultRoute(n.ifindex); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove default route over %s: %w", n.name, err)
	}
	return nil
}

// ignoreAdvertisements keeps a link to the addresses and routes it is given: a
// router that advertises others on the network does not add them.
func ignoreAdvertisements(link string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/accept_ra", []byte("0"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return fmt.Errorf("ignore router advertisements on %s: %w", link, err)
	}
	return nil
}

func parseLink(l *guestapi.Link) (all []netip.Prefix, gateway netip.Addr, err error) {
	if len(l.Mac) != 0 && len(l.Mac) != 6 {
		return nil, gateway, fmt.Errorf("hardware address of %d bytes: %w", len(l.Mac), errdefs.ErrInvalidArgument)
	}
	for _, a := range l.Addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return nil, gateway, fmt.Errorf("address %q: %w", a, errdefs.ErrInvalidArgument)
		}
		all = append(all, p)
	}
	if len(l.Device) != 0 && len(l.Device) != 6 {
		return nil, gateway, fmt.Errorf("card's own address of %d bytes: %w", len(l.Device), errdefs.ErrInvalidArgument)
	}
	if l.Gateway != "" {
		if gateway, err = netip.ParseAddr(l.Gateway); err != nil {
			return nil, gateway, fmt.Errorf("gateway %q: %w", l.Gateway, errdefs.ErrInvalidArgument)
		}
	}
	return all, gateway, nil
}

// SetSysctls sets sysctls of the machine's network namespace. Names are relative
// to net or start with it, with dots or slashes.
func SetSysctls(all map[string]string) error {
	root, err := os.OpenRoot("/proc/sys/net")
	if err != nil {
		return fmt.Errorf("set sysctls: %w", err)
	}
	defer root.Close()
	for k, v := range all {
		name := k
		if !strings.Contains(k, "/") {
			name = strings.ReplaceAll(k, ".", "/")
		}
		name = strings.TrimPrefix(name, "net/")
		f, err := root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("sysctl %q: %w: %w", k, err, errdefs.ErrInvalidArgument)
		}
		_, err = f.WriteString(v)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("set sysctl %s to %q: %w", k, v, err)
		}
	}
	return nil
}
