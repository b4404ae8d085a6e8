// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/vport"
	"byre.dev/byre/internal/guestapi"
)

// Bounds of v9fs' message size: its own default and the most that the fd
// transport takes.
const (
	minMsize = 4096
	maxMsize = 1 << 20
)

// mountShare attaches a share by v9fs' fd transport. Where the kernel takes the
// share's virtio port itself, it owns it from then on and nothing of ours is in
// the way; else a relay goes between the port, or the link's stream, and a
// socket pair. The returned function ends the relay.
func (m *Manager) mountShare(ctx context.Context, target string, s *guestapi.Share, opts options) (func(), error) {
	data, err := shareOptions(s)
	if err != nil {
		return nil, err
	}
	conn, port, err := m.openShare(ctx, s)
	if err != nil {
		return nil, err
	}
	if port != nil && vport.TakesKernelIO(port) {
		fd, err := vport.Detach(port)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		return nil, mount9p(target, fd, s.Name, data, opts)
	}
	if port != nil {
		conn = port
	}
	kernel, ours, err := socketPair()
	if err != nil {
		conn.Close()
		return nil, err
	}
	release := m.relay(conn, ours)
	defer unix.Close(kernel)
	if err := mount9p(target, kernel, s.Name, data, opts); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// openShare opens the share's bytes: a port, or a stream of the link.
func (m *Manager) openShare(ctx context.Context, s *guestapi.Share) (io.ReadWriteCloser, *os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	if s.Transport == guestapi.Share_LINK {
		if m.cfg.DialShare == nil {
			return nil, nil, fmt.Errorf("this guest has no link for shares: %w", errdefs.ErrNotImplemented)
		}
		conn, err := m.cfg.DialShare(ctx, s.Name)
		return conn, nil, err
	}
	dev, err := vport.Find(ctx, guestapi.SharePortPrefix+s.Name)
	if err != nil {
		return nil, nil, err
	}
	port, err := vport.Open(dev)
	if err != nil {
		return nil, nil, err
	}
	if err := vport.WaitHost(ctx, port); err != nil {
		port.Close()
		return nil, nil, err
	}
	return nil, port, nil
}

func shareOptions(s *guestapi.Share) ([]string, error) {
	if s.Name == "" || strings.ContainsFunc(s.Name, notNameRune) {
		return nil, fmt.Errorf("share name %q: %w", s.Name, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains([]string{"loose", "none"}, s.Cache) {
		return nil, fmt.Errorf("cache mode %q is neither loose nor none: %w", s.Cache, errdefs.ErrInvalidArgument)
	}
	if s.Msize < minMsize || s.Msize > maxMsize {
		return nil, fmt.Errorf("msize %d is not within %d and %d: %w", s.Msize, minMsize, maxMsize, errdefs.ErrInvalidArgument)
	}
	data := []string{
		"trans=fd", "version=9p2000.L", "aname=" + s.Name, "cache=" + s.Cache,
		fmt.Sprintf("msize=%d", s.Msize), "locktimeout=1",
	}
	if s.PosixAcl {
		return append(data, "access=client", "posixacl"), nil
	}
	return append(data, "access=user"), nil
}

func notNameRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r))
}

// mount9p mounts over an open file that the kernel keeps from then on.
func mount9p(target string, fd int, name string, data []string, opts options) error {
	at, err := makeDir(target)
	if err != nil {
		return err
	}
	defer at.close()
	all := opts.join(append(data, fmt.Sprintf("rfdno=%d", fd), fmt.Sprintf("wfdno=%d", fd))...)
	if err := unix.Mount(name, at.path(), "9p", opts.flags, all); err != nil {
		return fmt.Errorf("9p share %q: %w", name, err)
	}
	return finish(target, opts)
}

// socketPair returns a stream socket pair: an end for the kernel, which the
// caller closes, and ours.
func socketPair() (kernel int, ours net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make socket pair: %w", err)
	}
	other := os.NewFile(uintptr(fds[1]), "share")
	defer other.Close()
	if ours, err = net.FileConn(other); err != nil {
		unix.Close(fds[0])
		return -1, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return fds[0], ours, nil
}

// relayBuffer holds one message of the usual size.
const relayBuffer = 512 << 10

// relay copies both ways until either side ends or the returned function is
// called.
func (m *Manager) relay(a, b io.ReadWriteCloser) (stop func()) {
	stop = func() {
		a.Close()
		b.Close()
	}
	pump := func(dst io.Writer, src io.Reader) {
		defer stop()
		// The wrappers keep io.CopyBuffer from other ways than the buffer.
		io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, relayBuffer))
	}
	m.relays.Go(func() { pump(a, b) })
	m.relays.Go(func() { pump(b, a) })
	return stop
}

// Close ends the relays that are left once everything is unmounted.
func (m *Manager) Close() error {
	m.mu.Lock()
	for _, d := range m.made {
		if d.release != nil {
			d.release()
		}
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the relays, whose connections are closed above
		m.relays.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(time.Second):
		return errors.New("a share's relay does not end")
	}
}
