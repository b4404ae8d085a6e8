// SPDX-License-Identifier: Apache-2.0

package vport_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/vport"
)

// port is a FIFO, which waits and polls as a port does, and its node.
func port(t *testing.T) (*os.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "port")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := vport.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

func TestTheFirstBytesEndTheWait(t *testing.T) {
	f, path := port(t)
	host, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	time.AfterFunc(50*time.Millisecond, func() { host.WriteString("hello") })
	buf := make([]byte, 16)
	if n, err := vport.WaitData(f, buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func TestClosingThePortEndsTheWait(t *testing.T) {
	f, _ := port(t)
	time.AfterFunc(50*time.Millisecond, func() { f.Close() })
	if n, err := vport.WaitData(f, make([]byte, 16)); err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestADetachedPortIsTheSameOpenFile(t *testing.T) {
	f, path := port(t)
	fd, err := vport.Detach(f)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the port's first descriptor: %v", err)
	}
	host, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	host.WriteString("still")
	buf := make([]byte, 16)
	if n, err := unix.Read(fd, buf); err != nil || string(buf[:n]) != "still" {
		t.Errorf("%q, %v", buf[:max(n, 0)], err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("programs inherit it: flags %#x, %v", flags, err)
	}
}

func TestAHostThatIsAwayIsWaitedForInBounds(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "port")
	defer f.Close()
	if err := vport.WaitHost(t.Context(), f); err != nil {
		t.Errorf("a host that is there: %v", err)
	}
	unix.Close(fds[1])
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := vport.WaitHost(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a host that has gone: %v", err)
	}
}

func TestAPortOfNoMachineIsNotFound(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if dev, err := vport.Find(ctx, "byre.no-such-port"); !errdefs.IsNotFound(err) {
		t.Errorf("%q, %v", dev, err)
	}
	if _, err := vport.Open("/dev/no-such-port"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

func TestWhatTheKernelItselfCanReadIsTold(t *testing.T) {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if !vport.TakesKernelIO(file) {
		t.Error("a file of the file system has no read_iter")
	}
	memory, err := os.Open("/proc/self/mem") // has read alone
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	if vport.TakesKernelIO(memory) {
		t.Error("a file with read alone passes for one with read_iter")
	}
}
