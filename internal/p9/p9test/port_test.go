// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/testenv"
)

// TestAPortThatIsPolledServesAllTheSame mounts a share over a virtio port that
// is in an epoll set as well. P9TEST_PORT is the name of a port of a guest
// where a server waits.
func TestAPortThatIsPolledServesAllTheSame(t *testing.T) {
	name := os.Getenv("P9TEST_PORT")
	if name == "" {
		testenv.Skip(t, testenv.Guest, "P9TEST_PORT names no port: a guest is needed")
	}
	fd, err := unix.Open(portDevice(t, name), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop := pollWithoutEnd(t, fd)
	dir := t.TempDir()
	options := fmt.Sprintf("trans=fd,rfdno=%d,wfdno=%d,version=9p2000.L,access=any", fd, fd)
	for round := range 60 {
		within(t, fmt.Sprint("round ", round), func() error {
			if err := unix.Mount("polled", dir, "9p", 0, options); err != nil {
				return err
			}
			return errors.Join(os.WriteFile(dir+"/f", []byte("text"), 0o644), unix.Unmount(dir, 0))
		})
	}
	stop()
}

// portDevice makes a device file of a virtio port.
func portDevice(t *testing.T, name string) string {
	t.Helper()
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, n := range names {
		if b, _ := os.ReadFile(n); strings.TrimSpace(string(b)) != name {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(n), "dev"))
		if err != nil {
			t.Fatal(err)
		}
		var major, minor uint32
		fmt.Sscanf(string(b), "%d:%d", &major, &minor)
		dev := filepath.Join(t.TempDir(), "port")
		if err := unix.Mknod(dev, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
			t.Fatal(err)
		}
		return dev
	}
	t.Fatalf("no port %q among %v", name, names)
	return ""
}

// pollWithoutEnd has a thread wait for the port in an epoll set until stop is
// called, which closes both.
func pollWithoutEnd(t *testing.T, fd int) (stop func()) {
	t.Helper()
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for events := make([]unix.EpollEvent, 1); ; {
			select {
			case <-done:
				return
			default:
				unix.EpollWait(set, events, 10)
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		unix.Close(set)
		unix.Close(fd)
	}
}

// within ends the program if f takes a minute: what hangs in the kernel would
// keep the test from cleaning up.
func within(t *testing.T, what string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }() // ends before this function, or the program does
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(time.Minute):
		panic(what + ": no end after a minute")
	}
}
