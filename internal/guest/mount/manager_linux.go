// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// Config is what a Manager needs.
type Config struct {
	// DialShare opens the link stream of the share named; nil refuses shares
	// over the link.
	DialShare func(ctx context.Context, name string) (net.Conn, error)
	// DialSocket opens a link stream for a connection to the socket named; nil
	// refuses sockets.
	DialSocket func(ctx context.Context, name string) (net.Conn, error)
	// Log receives what went wrong without an answer to carry it; nil discards.
	Log *slog.Logger
}

// Manager makes and remembers mounts. Use New.
type Manager struct {
	cfg Config
	mu  sync.Mutex
	// made has the targets in the order in which they were mounted. Guarded
	// by mu.
	made []made
	// relays counts the goroutines of shares without a port of their own and of
	// sockets.
	relays sync.WaitGroup
}

type made struct {
	target string
	// release frees what the mount needed besides itself; it may be nil.
	release func()
	// overlay is what the mount was made of, where it is one.
	overlay *guestapi.Overlay
	// share says that it is a share of the host's.
	share bool
}

// New returns a Manager.
func New(cfg Config) *Manager {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{cfg: cfg}
}

// Mount makes the mounts in order. When one fails, those that this call made
// are undone and the error names the failed one.
func (m *Manager) Mount(ctx context.Context, mounts []*guestapi.Mount) error {
	var done []string
	for i, mnt := range mounts {
		err := m.mountOne(ctx, mnt)
		if err == nil {
			done = append(done, mnt.Target)
			continue
		}
		slices.Reverse(done)
		if uerr := m.Unmount(context.WithoutCancel(ctx), done, false); uerr != nil {
			m.cfg.Log.Warn("mounts of a failed call stay", "err", uerr)
		}
		return fmt.Errorf("mount %d at %s: %w", i, mnt.Target, err)
	}
	return nil
}

func (m *Manager) mountOne(ctx context.Context, mnt *guestapi.Mount) error {
	target, err := confined(mnt.Target)
	if err != nil {
		return err
	}
	opts, err := parseOptions(mnt)
	if err != nil {
		return err
	}
	release, err := m.attach(ctx, target, mnt, opts)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = append(m.made, made{target: target, release: release, overlay: writableOverlay(mnt), share: mnt.GetShare() != nil})
	return nil
}

// writableOverlay says where a mount's writes go and what lies below. A bind of
// a directory of that name is an overlay on nothing: an image without layers.
func writableOverlay(mnt *guestapi.Mount) *guestapi.Overlay {
	switch s := mnt.Source.(type) {
	case *guestapi.Mount_Overlay:
		return s.Overlay
	case *guestapi.Mount_Bind:
		if path.Base(s.Bind.Source) == "upper" {
			return &guestapi.Overlay{Upper: s.Bind.Source}
		}
	}
	return nil
}

// Overlay returns what the mount at target was made of; false for one that is no
// writable overlay.
func (m *Manager) Overlay(target string) (upper string, lower []string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range slices.Backward(m.made) {
		if d.target == target {
			return d.overlay.GetUpper(), d.overlay.GetLower(), d.overlay.GetUpper() != ""
		}
	}
	return "", nil, false
}

func (m *Manager) attach(ctx context.Context, target string, mnt *guestapi.Mount, opts options) (func(), error) {
	switch s := mnt.Source.(type) {
	case *guestapi.Mount_Disk:
		return nil, mountDisk(ctx, target, s.Disk, opts)
	case *guestapi.Mount_Overlay:
		return nil, mountOverlay(target, s.Overlay, opts)
	case *guestapi.Mount_Share:
		return m.mountShare(ctx, target, s.Share, opts)
	case *guestapi.Mount_Tmpfs:
		return nil, mountTmpfs(target, s.Tmpfs, opts)
	case *guestapi.Mount_Bind:
		return nil, mountBind(target, s.Bind, opts)
	case *guestapi.Mount_Socket:
		return m.mountSocket(target, s.Socket, opts)
	}
	return nil, fmt.Errorf("the mount names no source: %w", errdefs.ErrInvalidArgument)
}

// Unmount undoes mounts in the order given; with sync their file systems are
// flushed first, of whose failure the log tells. A target that is not mounted is not an error. All targets are
// tried; the first error is returned.
func (m *Manager) Unmount(ctx context.Context, targets []string, sync bool) error {
	var first error
	for _, t := range targets {
		if err := m.unmountOne(ctx, t, sync); err != nil && first == nil {
			first = fmt.Errorf("unmount %s: %w", t, err)
		}
	}
	return first
}

// busyWait is how long an unmount waits for the last user, such as a mount
// namespace that the kernel is still taking down.
const busyWait = 3 * time.Second

func (m *Manager) unmountOne(ctx context.Context, name string, sync bool) error {
	target, err := confined(name)
	if err != nil {
		return err
	}
	if sync {
		// What could not be written will not be later either.
		if err := syncfs(target); err != nil {
			m.cfg.Log.Warn("not all was written before the unmount", "err", err)
		}
	}
	deadline := time.Now().Add(busyWait)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		sleep(ctx, wait)
	}
	if errors.Is(err, unix.EBUSY) && m.isShare(target) {
		// Its disk is the host's, which has all of it since the flush.
		m.cfg.Log.Warn("share in use is unmounted all the same", "target", target)
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	m.forget(target)
	return nil
}

func (m *Manager) isShare(target string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.made, func(d made) bool { return d.target == target && d.share })
}

func (m *Manager) forget(target string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.made) - 1; i >= 0; i-- {
		if m.made[i].target == target {
			if m.made[i].release != nil {
				m.made[i].release()
			}
			m.made = slices.Delete(m.made, i, i+1)
			return
		}
	}
}

// UnmountAll takes down every mount in reverse order, lazily where a user is
// left, and flushes all file systems. It serves the end of the machine.
func (m *Manager) UnmountAll(ctx context.Context) error {
	m.mu.Lock()
	all := slices.Clone(m.made)
	m.mu.Unlock()
	var errs []error
	for _, mnt := range slices.Backward(all) {
		err := unix.Unmount(mnt.target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			syncfs(mnt.target)
			err = unix.Unmount(mnt.target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", mnt.target, err))
		}
		m.forget(mnt.target)
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
	return errors.Join(errs...)
}

// Targets returns what is mounted, in the order it was mounted.
func (m *Manager) Targets() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]string, 0, len(m.made))
	for _, d := range m.made {
		out = append(out, d.target)
	}
	return out
}

func syncfs(target string) error {
	fd, err := unix.Open(target, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) { // ENXIO is a socket's
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s to flush it: %w", target, err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("flush %s: %w", target, err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
