// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/lockfile"
)

// heldVolume is a volume's disk that is plugged into this machine, and so into
// no other: these borrow it.
type heldVolume struct {
	source string
	disk   *pluggedDisk
	// lock is on the file beside the disk that says that a machine has it.
	lock *lockfile.Lock
	// listener takes those who borrow, nil while it is not lent. It is guarded by the
	// table's mu, as what follows.
	listener net.Listener
	// users counts mounts in containers of this machine, loans those of others.
	users, loans int
}

// volumeTable knows the volumes whose disks are plugged in, by source.
type volumeTable struct {
	mu sync.Mutex
	// held and ended are guarded by mu.
	held map[string]*heldVolume
	// ended says that nothing is lent any more.
	ended bool
}

// attachVolumes has the disk images of volumes plugged in, or borrows them,
// fills those that are empty and mounts them. The root file system is mounted.
// The caller holds setup.
func (c *Container) attachVolumes(ctx context.Context, specs []VolumeSpec) error {
	for _, v := range specs {
		if err := c.attachVolume(ctx, v); err != nil {
			return fmt.Errorf("volume %s for %s: %w", v.Source, v.Dest, err)
		}
	}
	return nil
}

const (
	// volumeWait bounds the wait for a volume whose machine is about to end.
	volumeWait = time.Minute
	// volumeRetry is the time between two looks at it.
	volumeRetry = 50 * time.Millisecond
)

// attachVolume takes the volume's disk if no machine has it, and else borrows it
// from the one that does.
func (c *Container) attachVolume(ctx context.Context, v VolumeSpec) error {
	s := c.sandbox
	for deadline := time.Now().Add(volumeWait); ; {
		h, err := s.holdVolume(ctx, v.Source)
		if err == nil {
			c.volumes = append(c.volumes, h)
			return c.mountVolume(ctx, v, h)
		}
		if !errors.Is(err, lockfile.ErrHeld) {
			return err
		}
		lender, err := s.borrow(ctx, v.Source)
		if err == nil {
			return c.mountBorrowed(ctx, v, lender)
		}
		if time.Now().After(deadline) || !pause(ctx, volumeRetry) {
			return fmt.Errorf("another machine has the disk and does not lend it; stop the container that uses it, and see its shim's log: %w", err)
		}
	}
}

// holdVolume counts another user of a volume that is plugged in here, or plugs
// it in. While another machine has it the error is lockfile.ErrHeld.
func (s *Sandbox) holdVolume(ctx context.Context, source string) (*heldVolume, error) {
	if h := s.volumes.use(source); h != nil {
		return h, nil
	}
	lock, err := lockfile.Try(source + ".lock")
	if err != nil {
		return nil, err
	}
	d, err := s.plugVolume(ctx, source)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	h := &heldVolume{source: source, disk: d, lock: lock, users: 1}
	s.volumes.insert(h)
	return h, nil
}

func (s *Sandbox) plugVolume(ctx context.Context, source string) (*pluggedDisk, error) {
	d, err := s.acquireDisk(ctx, source, false)
	if err != nil {
		return nil, err
	}
	m := d.mount(RootDisk{Path: source, FSType: "ext4"})
	if _, err := s.link.guest.Mount(ctx, &guestapi.MountRequest{Mounts: []*guestapi.Mount{m}}); err != nil {
		return nil, errors.Join(fmt.Errorf("mount in the guest: %w", err), s.releaseDisk(ctx, d))
	}
	d.mounted = true
	return d, nil
}

// mountVolume mounts a volume that is plugged in for a container, and lends it
// from then on.
func (c *Container) mountVolume(ctx context.Context, v VolumeSpec, h *heldVolume) error {
	if v.Fill {
		if err := c.fill(ctx, v.Dest, guestapi.VolumeDir(h.disk.number), true); err != nil {
			return err
		}
	}
	bind := &guestapi.Mount{
		Target: volumeDir(c.id, v.Index), Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: guestapi.VolumeDir(h.disk.number)}},
	}
	if _, err := c.sandbox.link.guest.Mount(ctx, &guestapi.MountRequest{Mounts: []*guestapi.Mount{bind}}); err != nil {
		return fmt.Errorf("mount in the guest: %w", err)
	}
	c.targets = append(c.targets, bind.Target)
	c.sandbox.lend(h)
	return nil
}

// leaveVolumes gives up a container's uses of volumes, which it has unmounted. A
// volume that others have borrowed stays. The caller holds setup.
func (c *Container) leaveVolumes(ctx context.Context) error {
	for len(c.volumes) > 0 {
		last := len(c.volumes) - 1
		h := c.volumes[last]
		c.volumes = c.volumes[:last]
		c.sandbox.volumes.leave(h)
		if err := c.sandbox.dropVolume(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// dropVolume unplugs a volume that nobody uses. The caller holds setup.
func (s *Sandbox) dropVolume(ctx context.Context, h *heldVolume) error {
	if !s.volumes.removeUnused(h) {
		return nil
	}
	if err := s.releaseDisk(ctx, h.disk); err != nil {
		return err // the lock stays: the disk is still in this machine
	}
	return h.lock.Close()
}

func (t *volumeTable) use(source string) *heldVolume {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.held[source]
	if h != nil {
		h.users++
	}
	return h
}

func (t *volumeTable) insert(h *heldVolume) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == nil {
		t.held = map[string]*heldVolume{}
	}
	t.held[h.source] = h
}

func (t *volumeTable) leave(h *heldVolume) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.users--
}

// removeUnused ends the lending of a volume that nobody uses, and says so.
func (t *volumeTable) removeUnused(h *heldVolume) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.users > 0 || h.loans > 0 || t.held[h.source] != h {
		return false
	}
	delete(t.held, h.source)
	h.endLending()
	return true
}

// endLending closes the listener. The caller holds the table's mu.
func (h *heldVolume) endLending() {
	if h.listener != nil {
		_ = h.listener.Close()
		h.listener = nil
	}
}

// unlock gives the disks to other machines, once this one is gone.
func (t *volumeTable) unlock() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	for _, h := range t.held {
		err = errors.Join(err, h.lock.Close())
	}
	t.held = nil
	return err
}

// fillShares fills the shares that are to be.
func (c *Container) fillShares(ctx context.Context) error {
	for _, sh := range c.shares {
		if !sh.spec.Fill {
			continue
		}
		if err := c.fill(ctx, sh.spec.Dest, shareDir(c.id, sh.spec.Index), false); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) fill(ctx context.Context, dest, target string, replace bool) error {
	_, err := c.sandbox.link.guest.FillVolume(ctx, &guestapi.FillRequest{
		ContainerId: c.id, Path: dest, Target: target, Replace: replace,
	})
	return err
}

// isEmptyDir says whether a path is a directory without entries.
func isEmptyDir(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}
