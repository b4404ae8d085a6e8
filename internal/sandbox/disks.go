// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

// diskKey is what makes two uses of a disk image the same.
type diskKey struct {
	path     string
	readOnly bool
}

// pluggedDisk is an image that is plugged in. Its fields are guarded by the sandbox's
// setup semaphore.
type pluggedDisk struct {
	key diskKey
	// number names the mount point in the guest.
	number int
	lun    uint32
	refs   int
	// mounted is true once the guest has the disk mounted.
	mounted bool
}

func (d *pluggedDisk) point() string { return guestapi.DiskDir(d.number) }

// diskTable knows the images that are plugged in. An image that several
// containers use read-only is there once.
type diskTable struct {
	mu sync.Mutex
	// byKey, next and used are guarded by mu.
	byKey map[diskKey]*pluggedDisk
	next  int
	// used is true when a disk has come that is to be trimmed.
	used bool
}

// dirty tells whether an image that can be written is still mounted.
func (t *diskTable) dirty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.byKey {
		if !k.readOnly {
			return true
		}
	}
	return false
}

func (t *diskTable) lookup(key diskKey) *pluggedDisk {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[key]
}

func (t *diskTable) insert(d *pluggedDisk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.number = t.next
	t.next++
	t.byKey[d.key] = d
}

func (t *diskTable) remove(d *pluggedDisk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byKey, d.key)
}

// acquireDisk plugs an image in, or counts another user of one that is there.
// The caller holds setup.
func (s *Sandbox) acquireDisk(ctx context.Context, path string, readOnly bool) (*pluggedDisk, error) {
	key := diskKey{path, readOnly}
	if d := s.disks.lookup(key); d != nil {
		if !readOnly {
			return nil, fmt.Errorf("attach disk %s: another container writes to it: %w", path, errdefs.ErrFailedPrecondition)
		}
		d.refs++
		return d, nil
	}
	lun, err := s.machine.AttachDisk(ctx, vm.Disk{Path: path, ReadOnly: readOnly})
	if err != nil {
		return nil, fmt.Errorf("attach disk %s: %w", path, err)
	}
	d := &pluggedDisk{key: key, lun: lun, refs: 1}
	s.disks.insert(d)
	if !readOnly {
		s.disks.noteUsed(path)
	}
	return d, nil
}

// releaseDisk gives up one use of an image and unplugs it after the last. The
// guest must have unmounted a disk that nobody uses any more, which release
// sees to. The caller holds setup.
func (s *Sandbox) releaseDisk(ctx context.Context, d *pluggedDisk) error {
	d.refs--
	if d.refs > 0 {
		return nil
	}
	if d.mounted {
		if err := s.unmount(ctx, d.point()); err != nil {
			return err
		}
		d.mounted = false
	}
	if err := s.machine.DetachDisk(ctx, d.lun); err != nil {
		return fmt.Errorf("detach disk %s: %w", d.key.path, err)
	}
	s.disks.remove(d)
	return nil
}

func (s *Sandbox) unmount(ctx context.Context, targets ...string) error {
	if len(targets) == 0 {
		return nil
	}
	if _, err := s.link.guest.Unmount(ctx, &guestapi.UnmountRequest{Targets: targets, Sync: true}); err != nil {
		return fmt.Errorf("unmount in the guest: %w", s.Explain(err))
	}
	return nil
}

// mount returns the guest's mount of the disk. A writable ext4 discards what is
// deleted on it, so that its image gives the space back to the host; ext4 does
// that behind its journal, in the background.
func (d *pluggedDisk) mount(r RootDisk) *guestapi.Mount {
	options := r.Options
	if r.FSType == "ext4" && !d.key.readOnly && !slices.Contains(options, "nodiscard") {
		options = append(slices.Clone(options), "discard")
	}
	return &guestapi.Mount{
		Target:   d.point(),
		ReadOnly: d.key.readOnly,
		Options:  options,
		Source: &guestapi.Mount_Disk{Disk: &guestapi.Disk{
			Lun: d.lun, Fstype: r.FSType, Grow: r.FSType == "ext4" && !d.key.readOnly,
		}},
	}
}
