// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// releaseWait bounds the undoing of a container that was not created.
const releaseWait = 20 * time.Second

// Release unmounts and unplugs everything of a container whose task is deleted.
// Its writable disks are flushed when it returns without an error. It may be
// called again after an error.
func (c *Container) Release(ctx context.Context) error {
	s := c.sandbox
	if err := s.lockSetup(ctx); err != nil {
		return err
	}
	defer s.unlockSetup()
	c.quiet(ctx)
	slices.Reverse(c.targets)
	err := s.unmount(ctx, c.targets...)
	if err != nil {
		slices.Reverse(c.targets)
		return fmt.Errorf("release container %s: %w", c.id, err)
	}
	c.targets = nil
	if err := c.leaveVolumes(ctx); err != nil {
		return fmt.Errorf("release container %s: %w", c.id, err)
	}
	for len(c.disks) > 0 {
		last := len(c.disks) - 1
		if err := s.releaseDisk(ctx, c.disks[last]); err != nil {
			return fmt.Errorf("release container %s: %w", c.id, err)
		}
		c.disks = c.disks[:last]
	}
	for _, sh := range c.shares {
		err = errors.Join(err, s.releaseShare(ctx, sh))
	}
	c.shares = nil
	c.releaseSockets()
	s.mu.Lock()
	delete(s.containers, c.id)
	s.mu.Unlock()
	return errors.Join(err, c.discard())
}

// ReleaseLast is Release for the sandbox's last container, whose machine ends
// next and lends nothing (StopLending): everything is flushed and unmounted, but
// nothing is unplugged, since that takes the guest's help and time. The sandbox is only good for Close then.
// Discarded says that the container's root file system is not read again: it is
// left as it is, which under emulation is a tenth of a container's life, unless
// the guest holds what others read, shares and volumes.
func (c *Container) ReleaseLast(ctx context.Context, discarded bool) error {
	s := c.sandbox
	if err := s.lockSetup(ctx); err != nil {
		return err
	}
	defer s.unlockSetup()
	if !discarded || c.shared {
		if err := c.unmountAll(ctx); err != nil {
			return fmt.Errorf("release container %s: %w", c.id, err)
		}
	}
	for _, d := range c.disks {
		s.disks.remove(d)
	}
	for _, h := range c.volumes {
		s.disks.remove(h.disk)
	}
	s.mu.Lock()
	s.closed = true
	delete(s.containers, c.id)
	s.mu.Unlock()
	return c.discard()
}

// unmountAll unmounts all that the container has, and so flushes it.
func (c *Container) unmountAll(ctx context.Context) error {
	c.quiet(ctx)
	targets := slices.Clone(c.targets)
	slices.Reverse(targets)
	for _, d := range slices.Backward(c.disks) {
		if d.mounted {
			targets = append(targets, d.point())
		}
	}
	for _, h := range c.volumes {
		if target := h.disk.point(); !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	return c.sandbox.unmount(ctx, targets...)
}

// quiet ends the repeating of the host's changes on the container's shares.
func (c *Container) quiet(ctx context.Context) {
	for _, sh := range c.shares {
		sh.replay.quiet(ctx)
	}
}

// discard removes what the container keeps on the host.
func (c *Container) discard() error {
	if c.scratch == "" {
		return nil
	}
	if err := os.Remove(c.scratch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove scratch disk: %w", err)
	}
	return nil
}
