// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// Cards are the machine's network cards. Those that no network uses are kept in
// a network namespace of their own: containers, which use the machine's, do not
// see them. A nil Cards hides none.
type Cards struct {
	// own and idle are the namespaces, conn is a netlink socket of idle.
	own, idle int
	conn      *conn

	mu sync.Mutex
	// used has the own addresses of cards that networks use. Guarded by mu.
	used []string
}

// HideCards makes the namespace and moves all cards but the first into it, which
// most machines use and which is spared the way back and forth. It is for PID 1
// of a machine alone, and lasts until its end.
func HideCards() (*Cards, error) {
	k, err := newCards()
	if err != nil {
		return nil, fmt.Errorf("hide unused network cards: %w", err)
	}
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	all, err := c.nics(sysNet)
	if err != nil {
		return nil, err
	}
	for _, n := range all[min(1, len(all)):] {
		if err := k.hide(c, n); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func newCards() (k *Cards, err error) {
	runtime.LockOSThread()
	k = &Cards{own: -1, idle: -1}
	if k.own, err = openNamespace(); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, errors.Join(err, unix.Close(k.own))
	}
	if k.idle, err = openNamespace(); err == nil {
		k.conn, err = dial()
	}
	if back := unix.Setns(k.own, unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back) // the thread stays locked: it is of no use any more
	}
	runtime.UnlockOSThread()
	return k, err
}

// openNamespace opens the calling thread's network namespace.
func openNamespace() (int, error) {
	return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// move moves a card from the namespace of c to another.
func (c *conn) move(n nic, to int) error {
	m := linkMessage(n.ifindex, 0, 0)
	m.attr32(unix.IFLA_NET_NS_FD, uint32(to))
	return c.do(m)
}

func (k *Cards) hide(c *conn, n nic) error {
	if err := c.move(n, k.idle); err != nil {
		return fmt.Errorf("hide %s: %w", n.name, err)
	}
	return nil
}

// show brings the card back that a link is about, if it is hidden; c is of the
// machine's namespace. A link's position counts all cards.
func (k *Cards) show(c *conn, l *guestapi.Link) error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	hidden, err := k.hidden()
	if err != nil {
		return err
	}
	seen, err := c.nics(sysNet)
	if err != nil {
		return err
	}
	all := append(seen, hidden...)
	slices.SortFunc(all, byIndex)
	n, ok := pick(all, l)
	if !ok || !slices.ContainsFunc(hidden, func(h nic) bool { return bytes.Equal(h.device, n.device) }) {
		return nil
	}
	if err := k.conn.move(n, k.own); err != nil {
		return fmt.Errorf("show %s: %w", n.name, err)
	}
	return nil
}

// hidden lists the cards that are hidden. The caller holds mu.
func (k *Cards) hidden() ([]nic, error) {
	all, err := k.conn.links()
	if err != nil {
		return nil, fmt.Errorf("list hidden network cards: %w", err)
	}
	return slices.DeleteFunc(all, func(n nic) bool { return n.ifindex == loopback }), nil
}

// note says whether a network uses a card.
func (k *Cards) note(n nic, used bool) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used = slices.DeleteFunc(k.used, func(d string) bool { return d == string(n.device) })
	if used {
		k.used = append(k.used, string(n.device))
	}
}

// hideUnused hides the cards that no network uses.
func (k *Cards) hideUnused() error {
	if k == nil {
		return nil
	}
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	all, err := c.nics(sysNet)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range all {
		if !slices.Contains(k.used, string(n.device)) {
			err = errors.Join(err, k.hide(c, n))
		}
	}
	return err
}
