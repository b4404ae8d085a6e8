// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
)

// Loopback brings the loopback link up; the kernel gives it its addresses.
func Loopback() error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	const lo = 1 // the loopback link of every network namespace
	if err := c.setUp(lo, 0, nil); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// Configure sets up the links, sets the network's sysctls and writes the files.
// A request that names no host and no resolver leaves the files as they are.
func Configure(ctx context.Context, r *guestapi.NetworkRequest) error {
	files, err := etcFiles(r)
	if err != nil {
		return err
	}
	for _, l := range r.Links {
		if err := configureLink(ctx, l); err != nil {
			return fmt.Errorf("link %d: %w", l.Index, err)
		}
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

func configureLink(ctx context.Context, l *guestapi.Link) error {
	prefixes, gateway, err := parseLink(l)
	if err != nil {
		return err
	}
	n, err := awaitNIC(ctx, int(l.Index))
	if err != nil {
		return err
	}
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	// A link's hardware address is set while it is down.
	if err := c.setDown(n.ifindex); err != nil {
		return fmt.Errorf("take %s down: %w", n.name, err)
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
	if !gateway.IsValid() {
		return nil
	}
	if err := c.addDefaultRoute(n.ifindex, gateway); err != nil {
		return fmt.Errorf("add default route by %v: %w", gateway, err)
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
	if l.Gateway != "" {
		if gateway, err = netip.ParseAddr(l.Gateway); err != nil {
			return nil, gateway, fmt.Errorf("gateway %q: %w", l.Gateway, errdefs.ErrInvalidArgument)
		}
	}
	return all, gateway, nil
}

// nic is a network card of the machine.
type nic struct {
	name    string
	ifindex int
}

// nicWait bounds the wait for a card that was just plugged in.
const nicWait = 10 * time.Second

func awaitNIC(ctx context.Context, position int) (nic, error) {
	ctx, cancel := context.WithTimeout(ctx, nicWait)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		all := nics("/sys/class/net")
		if position < len(all) {
			return all[position], nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nic{}, fmt.Errorf("the machine has %d network cards: %w", len(all), errdefs.ErrNotFound)
		}
	}
}

// nics lists the links that stand on a device, in the kernel's order.
func nics(dir string) []nic {
	links, _ := filepath.Glob(filepath.Join(dir, "*", "device"))
	var all []nic
	for _, l := range links {
		link := filepath.Dir(l)
		b, err := os.ReadFile(filepath.Join(link, "ifindex"))
		if err != nil {
			continue
		}
		if i, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			all = append(all, nic{name: filepath.Base(link), ifindex: i})
		}
	}
	slices.SortFunc(all, func(a, b nic) int { return cmp.Compare(a.ifindex, b.ifindex) })
	return all
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
