// SPDX-License-Identifier: Apache-2.0

//go:build unix

package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"byre.dev/byre/internal/daemon"
	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
)

// config is a daemon of a state directory with a short path: it has sockets.
func config(t *testing.T) daemon.Config {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "byre-daemon")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := home.Dir(dir)
	if err := os.WriteFile(d.Path("scratch"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return daemon.Config{
		Home: d, ShimDir: dir, ScratchTemplate: d.Path("scratch"),
		NetworkCommand: []string{"false"}, Build: engine.Build{Version: "1.2.3-test"},
	}
}

// run starts a daemon and returns when it answers; stop ends it and returns
// what Run did.
func run(t *testing.T, cfg daemon.Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, cfg, func() { close(ready) }) }() // stop waits for it
	var stopped bool
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		select {
		case err := <-ended:
			return err
		case <-time.After(60 * time.Second):
			return errors.New("the daemon does not end")
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the daemon ended: %v", err)
	case <-time.After(60 * time.Second):
		t.Fatal("the daemon does not answer")
	}
	return stop
}

func client(cfg daemon.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return localsock.Dial(ctx, cfg.Home.Path("docker.sock"))
		},
	}}
}

func version(t *testing.T, cfg daemon.Config) string {
	t.Helper()
	resp, err := client(cfg).Get("http://byre/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct{ Version string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v.Version
}

func TestADaemonAnswersUntilItIsToldToStopAndThenAgain(t *testing.T) {
	cfg := config(t)
	for round := range 2 {
		stop := run(t, cfg)
		if got := version(t, cfg); got != "1.2.3-test" {
			t.Errorf("round %d: version %q", round, got)
		}
		if b, err := os.ReadFile(cfg.Home.Path("daemon.pid")); err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(os.Getpid()) {
			t.Errorf("round %d: daemon.pid holds %q, %v", round, b, err)
		}
		if err := stop(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if _, err := localsock.Dial(t.Context(), cfg.Home.Path("docker.sock")); err == nil {
			t.Errorf("round %d: the door is open without a daemon", round)
		}
	}
}

func TestADaemonIsSpokenToInHTTP2WithoutAnUpgrade(t *testing.T) {
	cfg := config(t)
	run(t, cfg)
	c := client(cfg)
	transport := c.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	resp, err := c.Get("http://byre/_ping")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s, want HTTP/2.0 200", resp.Proto, resp.Status)
	}
}

func TestASecondDaemonIsToldWhoHasTheStateDirectory(t *testing.T) {
	cfg := config(t)
	run(t, cfg)
	err := daemon.Run(t.Context(), cfg, func() { t.Error("the second daemon answers") })
	taken, ok := errors.AsType[*home.TakenError](err)
	if !ok || taken.Process != strconv.Itoa(os.Getpid()) || !strings.Contains(err.Error(), "set BYRE_HOME") {
		t.Errorf("err = %v", err)
	}
	if got := version(t, cfg); got != "1.2.3-test" {
		t.Errorf("the first daemon's version is %q after it", got)
	}
}

func TestWhatAKilledDaemonLeftIsReplaced(t *testing.T) {
	cfg := config(t)
	l, err := net.Listen("unix", cfg.Home.Path("docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as SIGKILL leaves it
	if err := errors.Join(l.Close(), os.WriteFile(cfg.Home.Path("daemon.pid"), []byte("1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	if got := version(t, cfg); got != "1.2.3-test" {
		t.Errorf("version %q", got)
	}
}

func TestADaemonStopsWhileAClientKeepsAStreamOpen(t *testing.T) {
	cfg := config(t)
	stop := run(t, cfg)
	resp, err := client(cfg).Get("http://byre/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	begin := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("after %v", took)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Log("the stream ended in order")
	}
}

func TestAStateDirectoryThatCannotBeServedIsRefused(t *testing.T) {
	cfg := config(t)
	if err := os.WriteFile(cfg.Home.Path("version"), []byte("999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Run(t.Context(), cfg, func() { t.Error("it answers") }); err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("a newer layout: %v", err)
	}
	cfg.Home = home.Dir("/tmp/" + strings.Repeat("long", 40))
	if err := daemon.Run(t.Context(), cfg, func() { t.Error("it answers") }); err == nil || !strings.Contains(err.Error(), "set BYRE_HOME to a shorter path") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := os.Stat(string(cfg.Home)); err == nil {
		t.Error("the directory that was refused was made")
	}
}
