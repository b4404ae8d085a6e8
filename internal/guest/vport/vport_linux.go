// SPDX-License-Identifier: Apache-2.0

package vport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Find returns the device node of the port named, waiting until ctx ends for a
// port that has just been plugged in.
func Find(ctx context.Context, name string) (string, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if dev := find(name); dev != "" {
			return dev, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return "", fmt.Errorf("no virtio port named %q: %w", name, errdefs.ErrNotFound)
		}
	}
}

func find(name string) string {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil || strings.TrimSpace(string(b)) != name {
			continue
		}
		dev := "/dev/" + filepath.Base(filepath.Dir(n))
		if _, err := os.Stat(dev); err == nil {
			return dev
		}
	}
	return ""
}

// Open opens a port's device node; a port has one opener at a time.
func Open(dev string) (*os.File, error) {
	fd, err := unix.Open(dev, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open port: %w", &os.PathError{Op: "open", Path: dev, Err: err})
	}
	return os.NewFile(uintptr(fd), dev), nil
}

// Detach closes f and returns another descriptor of the same open port, which
// Go's poller does not watch; the caller closes it. A port that the kernel reads
// must have no other waiter: whoever polls the port takes the next buffer off
// the queue, the driver's interrupt then finds the queue empty and wakes nobody
// (vring_interrupt in drivers/virtio/virtio_ring.c), and v9fs waits for ever.
func Detach(f *os.File) (fd int, err error) {
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var derr error
	err = rc.Control(func(old uintptr) {
		fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err := errors.Join(err, derr); err != nil {
		return -1, fmt.Errorf("detach %s: %w", f.Name(), err)
	}
	return fd, nil
}

// WaitData blocks without spinning until the host has sent something on an open
// port, and returns the bytes read. Closing f ends it with an error.
func WaitData(f *os.File, buf []byte) (int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var rerr error
	err = rc.Read(func(fd uintptr) bool {
		for {
			n, rerr = unix.Read(int(fd), buf)
			if !errors.Is(rerr, unix.EINTR) {
				break
			}
		}
		// Nothing yet, or no host: both wait for the next edge.
		return n > 0 || rerr != nil && !errors.Is(rerr, unix.EAGAIN)
	})
	if err != nil {
		return 0, err
	}
	return n, rerr
}

// WaitHost waits until the host's end of an open port is connected.
func WaitHost(ctx context.Context, f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		var revents int16
		if err := rc.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			unix.Poll(p, 0)
			revents = p[0].Revents
		}); err != nil {
			return err
		}
		if revents&unix.POLLHUP == 0 {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("the host did not open %s: %w", f.Name(), ctx.Err())
		}
	}
}

// TakesKernelIO tells whether the kernel's own readers and writers, v9fs among
// them, can use the open port: whether its driver has read_iter and write_iter
// (kernel/patches). Without them readv with a flag is refused as unsupported
// before anything is read; with them an unreadable buffer leaves whatever has
// arrived where it is.
func TakesKernelIO(f *os.File) bool {
	rc, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var errno unix.Errno
	cerr := rc.Control(func(fd uintptr) { errno = preadvSync(fd) })
	return cerr == nil && errno != unix.EOPNOTSUPP
}
