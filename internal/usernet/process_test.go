// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/usernet"
)

// TestMain lets the test program be the network's process too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "network-switch" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
		if err := usernet.Main(ctx, os.Args[2], log); err != nil {
			log.Error("network", "err", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func processConfig(t *testing.T) usernet.Config {
	t.Helper()
	noLeak(t)
	return usernet.Config{Name: "procnet", Subnet: netip.MustParsePrefix("10.66.0.0/16"), Dir: t.TempDir()}
}

// ensure starts the network's process, which ends with the test.
func ensure(t *testing.T, cfg usernet.Config) *usernet.Client {
	t.Helper()
	c, err := usernet.Ensure(t.Context(), os.Args[0], []string{"network-switch"}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Stop(context.Background())
		c.Close()
		gone(t, c)
	})
	return c
}

// gone waits until no process answers.
func gone(t *testing.T, c *usernet.Client) {
	t.Helper()
	for range 200 {
		if _, err := c.Inspect(context.Background()); errdefs.IsUnavailable(err) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the network's process is still there")
}

func pid(t *testing.T, c *usernet.Client) int {
	t.Helper()
	info, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.PID
}

func TestNetworkOutlivesItsClients(t *testing.T) {
	cfg := processConfig(t)
	c := ensure(t, cfg)
	if pid(t, c) == os.Getpid() {
		t.Fatal("the network runs in this process")
	}
	ep, err := c.AddEndpoint(t.Context(), usernet.Endpoint{
		ID: "a", Names: []string{"web"}, Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 7}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := plug(t, ep)
	g.listenEcho(t, 7)
	open, err := net.Dial("tcp", netip.AddrPortFrom(loopback, ep.Ports[0].HostPort).String())
	if err != nil {
		t.Fatal(err)
	}
	before := pid(t, c)
	c.Close()

	// As after a restart of the daemon.
	again := ensure(t, cfg)
	info, err := again.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.PID != before || len(info.Endpoints) != 1 || !info.Endpoints[0].Connected || info.Endpoints[0].Names[0] != "web" {
		t.Errorf("network after a restart: %+v; its process was %d", info, before)
	}
	if got := exchange(t, open, "still open"); got != "still openbye" {
		t.Errorf("the open connection answered %q", got)
	}
}

func TestErrorsKeepTheirClassAcrossTheControlSocket(t *testing.T) {
	c := ensure(t, processConfig(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	_, err = c.AddEndpoint(t.Context(), usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{
		{HostIP: loopback, HostPort: port, GuestPort: 80},
	}})
	if !errors.Is(err, usernet.ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprintf("port %d on 127.0.0.1 is already in use", port)) {
		t.Errorf("port in use: %v", err)
	}
	if err := c.RemoveEndpoint(t.Context(), "a/../b"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "endpoint a/../b") {
		t.Errorf("endpoint that is not there: %v", err)
	}
	if err := c.SetNames(t.Context(), "a", []string{"x"}); !errdefs.IsNotFound(err) {
		t.Errorf("names of an endpoint that is not there: %v", err)
	}
	if _, err := c.AddEndpoint(t.Context(), usernet.Endpoint{ID: strings.Repeat("x", 8<<20)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a body of 8 MiB: %v", err)
	}
}

func TestKilledNetworkIsStartedAgain(t *testing.T) {
	cfg := processConfig(t)
	c := ensure(t, cfg)
	ep, err := c.AddEndpoint(t.Context(), usernet.Endpoint{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	first := pid(t, c)
	p, err := os.FindProcess(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, c)
	again := ensure(t, cfg)
	info, err := again.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.PID == first || len(info.Endpoints) != 0 {
		t.Errorf("network after a kill: %+v", info)
	}
	if _, err := os.Stat(ep.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket of before: %v", err)
	}
	if _, err := again.AddEndpoint(t.Context(), ep); err != nil {
		t.Errorf("an endpoint cannot be added again as it was: %v", err)
	}
}

func TestOneProcessIsStartedBetweenMany(t *testing.T) {
	cfg := processConfig(t)
	ensure(t, cfg)
	cfg.Dir = t.TempDir()
	var mu sync.Mutex
	pids := map[int]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c, err := usernet.Ensure(t.Context(), os.Args[0], []string{"network-switch"}, cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			info, err := c.Inspect(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			pids[info.PID] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	ensure(t, cfg)
	if len(pids) != 1 {
		t.Errorf("%d processes were started", len(pids))
	}
}

func TestAnotherConfigurationIsRefused(t *testing.T) {
	cfg := processConfig(t)
	ensure(t, cfg)
	cfg.Subnet = netip.MustParsePrefix("10.67.0.0/16")
	_, err := usernet.Ensure(t.Context(), os.Args[0], []string{"network-switch"}, cfg)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "10.67.0.0/16") {
		t.Errorf("error %v", err)
	}
}

func TestProcessThatCannotStartSaysWhy(t *testing.T) {
	cfg := processConfig(t)
	_, err := usernet.Ensure(t.Context(), "/bin/sh", []string{"-c", "echo no such luck >&2; exit 3"}, cfg)
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v", err)
	}
	_, err = usernet.Ensure(t.Context(), "/nonexistent", nil, cfg)
	if err == nil || !strings.Contains(err.Error(), "network procnet: start its process") {
		t.Errorf("error %v", err)
	}
}

// attach attaches a NIC to the network.
func attach(t *testing.T, c *usernet.Client) net.Conn {
	t.Helper()
	ep, err := c.AddEndpoint(t.Context(), usernet.Endpoint{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	nic, err := net.Dial(usernet.PortNetwork(), ep.Socket)
	if err != nil {
		t.Fatal(err)
	}
	return nic
}

// stays fails the test unless the network keeps nic for that long, and closes it.
func stays(t *testing.T, nic net.Conn, d time.Duration) {
	t.Helper()
	_ = nic.SetReadDeadline(time.Now().Add(d))
	if _, err := io.ReadFull(nic, make([]byte, 1<<16)); !os.IsTimeout(err) {
		t.Errorf("the network left its NIC: %v", err)
	}
	_ = nic.Close()
}

func TestIdleNetworkEnds(t *testing.T) {
	cfg := processConfig(t)
	cfg.IdleExit = 300 * time.Millisecond
	c := ensure(t, cfg)
	nic := attach(t, c)
	// With a NIC attached it stays.
	stays(t, nic, 900*time.Millisecond)
	// To ask it would keep it.
	time.Sleep(time.Second)
	if _, err := c.Inspect(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("an idle network is still there: %v", err)
	}
}

func TestPrivateSocketsAreTheOwnersAlone(t *testing.T) {
	cfg := processConfig(t)
	c := ensure(t, cfg)
	ep, err := c.AddEndpoint(t.Context(), usernet.Endpoint{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{cfg.Dir: 0o700, ep.Socket: 0o600, cfg.Dir + "/control.sock": 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}
