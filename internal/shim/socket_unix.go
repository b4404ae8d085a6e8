// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/shimapi"
)

// socket is the shim's socket before the shim runs.
type socket struct {
	address, path string
	l             *net.UnixListener
	f             *os.File
}

// defaultSocketDir is where containerd's own shims have their sockets; others
// than root have theirs beside their run-time files.
func defaultSocketDir() string {
	if os.Geteuid() == 0 {
		return "/run/containerd/s"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "containerd-s")
	}
	return filepath.Join(os.TempDir(), "byre-s-"+strconv.Itoa(os.Geteuid()))
}

// maxSocketPath is the shortest limit of our systems, macOS's, less one.
const maxSocketPath = 103

// listenSocket opens the socket of a sandbox. When a shim is serving it already
// it returns that shim's address instead.
func listenSocket(dir, address, namespace, group string) (s *socket, running string, err error) {
	if dir == "" {
		dir = defaultSocketDir()
	}
	path := filepath.Join(dir, socketName(address, namespace, group))
	if len(path) > maxSocketPath {
		return nil, "", fmt.Errorf("path %s is longer than %d bytes: give containerd a shorter state directory", path, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	s = &socket{address: "unix://" + path, path: path}
	s.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, syscall.EADDRINUSE) {
		if c, derr := net.DialTimeout("unix", path, time.Second); derr == nil {
			return nil, s.address, c.Close()
		}
		if err := os.Remove(path); err != nil {
			return nil, "", fmt.Errorf("remove socket of a dead shim: %w", err)
		}
		s.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	}
	if err != nil {
		return nil, "", err
	}
	s.l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, "", errors.Join(err, s.remove())
	}
	return s, "", nil
}

// handOver makes the listener the child's descriptor 3.
func (s *socket) handOver(cmd *exec.Cmd) (err error) {
	if s.f, err = s.l.File(); err != nil {
		return err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, s.f)
	return nil
}

// ready needs no wait: the socket takes connections from the moment it exists.
func (s *socket) ready() error { return errors.Join(s.f.Close(), s.l.Close()) }

func (s *socket) remove() error {
	return errors.Join(s.l.Close(), os.Remove(s.path))
}

// serveSocket returns the listener that start has opened.
func serveSocket(_ string) (net.Listener, error) {
	f := os.NewFile(3, "socket")
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over socket: %w", err)
	}
	unix.CloseOnExec(3)
	return l, f.Close()
}

// removeSocket removes the socket that a bundle's shim was serving.
func removeSocket(bundle string) error {
	b, err := os.ReadFile(filepath.Join(bundle, shimapi.BootstrapFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	address, err := shimapi.Address(b)
	if err != nil {
		return err
	}
	path := strings.TrimPrefix(address, "unix://")
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return c.Close() // the shim of other containers of the sandbox
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// detach puts the shim into a session of its own: it outlives containerd and
// its terminal.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// lockFile is held locked by a shim for as long as it lives; it holds its pid.
const lockFile = "byre-shim.pid"

// markShim says in the bundle that a shim lives. The mark ends with the process:
// its descriptor is not Go's to close.
func markShim(bundle string) error {
	path := filepath.Join(bundle, lockFile)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", path, err), unix.Close(fd))
	}
	if _, err := unix.Pwrite(fd, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), unix.Close(fd))
	}
	return nil
}

// moveMark marks another bundle in the place of one whose container is deleted
// while the shim goes on: containerd cleans up behind that one. A bundle that has
// no mark leaves everything as it is.
func moveMark(from, to string) error {
	path := filepath.Join(from, lockFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := markShim(to); err != nil {
		return err
	}
	return os.Remove(path)
}

// unmarkShim takes the mark from a bundle that is none of the shim's any more.
func unmarkShim(bundle string) error {
	err := os.Remove(filepath.Join(bundle, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// endShim kills a shim that still lives and waits until it is gone.
func endShim(bundle string) error {
	f, err := os.Open(filepath.Join(bundle, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for deadline := time.Now().Add(endWait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the shim does not end")
		}
		if pid := readPID(f); pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// endWait bounds the end of a killed shim.
const endWait = 3 * time.Second

func readPID(f *os.File) int {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}
