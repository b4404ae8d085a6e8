// SPDX-License-Identifier: Apache-2.0

//go:build unix

package usernet_test

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func TestNetworkEndsWithItsDirectoryOnceNoNICIsAttached(t *testing.T) {
	cfg := processConfig(t)
	cfg.Dir += "/net"
	c := ensure(t, cfg)
	nic := attach(t, c)
	process := pid(t, c)
	if err := os.RemoveAll(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	// Another network may be in its place meanwhile, and is not harmed.
	other := ensure(t, cfg)
	stays(t, nic, 3*time.Second)
	ended(t, process)
	if pid(t, other) == process {
		t.Error("the directory's next network is the first one")
	}
}

func TestIdleNetworkEndsSoonerWhenNoClientHoldsIt(t *testing.T) {
	cfg := processConfig(t)
	cfg.IdleExit, cfg.OrphanExit = time.Hour, 300*time.Millisecond
	c := ensure(t, cfg)
	if err := c.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	process := pid(t, c)
	time.Sleep(1500 * time.Millisecond)
	if err := syscall.Kill(process, 0); err != nil {
		t.Fatalf("a network that is held ended: %v", err)
	}
	// As after the daemon's death. With a NIC attached it stays nevertheless.
	nic := attach(t, c)
	c.Close()
	time.Sleep(1500 * time.Millisecond)
	if err := syscall.Kill(process, 0); err != nil {
		t.Fatalf("a network left its NIC: %v", err)
	}
	_ = nic.Close()
	ended(t, process)
}

// ended waits for the end of a process that this one started.
func ended(t *testing.T, process int) {
	t.Helper()
	for range 1000 {
		if syscall.Kill(process, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", process)
}
