// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

func TestAgentRefusesWhatComesTooEarly(t *testing.T) {
	m := guesttest.Boot(t, guesttest.Config{})
	m.Connect()
	if _, err := m.Stream(guestapi.PortStdio, "early"); err == nil || !strings.Contains(err.Error(), "renewed") {
		t.Errorf("stdio before renewal: %v", err)
	}
	c, err := m.Stream(guestapi.PortAgent, "")
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(c)
	defer client.Close()
	_, err = guestapi.NewGuestClient(client).Memory(m.Context(), &guestapi.MemoryRequest{})
	if !errdefs.IsFailedPrecondition(errgrpc.ToNative(err)) {
		t.Errorf("call before Hello: %v", err)
	}
	_, err = guestapi.NewGuestClient(client).Hello(m.Context(), &guestapi.HelloRequest{Version: guestapi.Version + 1, Build: "newer"})
	if err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("Hello of another version: %v", err)
	}
	m.Greet()
	_, err = m.Guest.Mount(m.Context(), &guestapi.MountRequest{})
	if !errdefs.IsFailedPrecondition(errgrpc.ToNative(err)) {
		t.Errorf("mount before renewal: %v", err)
	}
	_, err = m.Task.State(m.Context(), &taskapi.StateRequest{ID: "x"})
	if !errdefs.IsFailedPrecondition(errgrpc.ToNative(err)) {
		t.Errorf("task call before renewal: %v", err)
	}
	m.Renew()
	right := m.Secret
	m.Secret = bytes.Repeat([]byte{1}, guestapi.SecretSize)
	if _, err := m.Stream(guestapi.PortAgent, ""); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("stream with a wrong secret: %v", err)
	}
	m.Secret = right
	if _, err := m.Stream(guestapi.PortStdio, "now"); err != nil {
		t.Errorf("stdio after renewal: %v", err)
	}
}

func TestAgentWaitsForTheNextHostWithoutSpinning(t *testing.T) {
	m := guesttest.Start(t, guesttest.Config{})
	for round := 2; round <= 4; round++ {
		m.Session.Close()
		m.AwaitConsole("guest agent waiting", round)
		before := m.CPU()
		time.Sleep(time.Second)
		if used := m.CPU() - before; used > 300*time.Millisecond {
			t.Errorf("the machine used %v of a second while it waits", used)
		}
		m.Connect()
		if hello := m.Greet(); hello.NeedsRenewal {
			t.Error("renewal was forgotten with the link")
		}
	}
}

func TestPowerOffEndsTheMachineInOrder(t *testing.T) {
	scratch := guesttest.ScratchDisk(t)
	m := guesttest.Start(t, guesttest.Config{Disks: []guesttest.Disk{
		{Path: guesttest.BusyboxDisk(t), ReadOnly: true}, {Path: scratch},
	}})
	p := m.Run("box", guesttest.Spec("sh", "-c", "trap 'echo ended >/file; exit' TERM; echo up; while :; do sleep 0.05; done"))
	p.AwaitOutput("up")
	if _, err := m.Guest.PowerOff(m.Context(), &guestapi.PowerOffRequest{GraceMs: 5000}); err != nil {
		t.Fatalf("PowerOff: %v", err)
	}
	select {
	case <-m.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the machine still runs")
	}
	guesttest.CheckDisk(t, scratch)
	if got := guesttest.ReadDisk(t, scratch, "/box/file"); got != "ended\n" {
		t.Errorf("file written at the end holds %q", got)
	}
}

func TestTwoMachinesDifferAfterRenewal(t *testing.T) {
	one := guesttest.Start(t, guesttest.Config{})
	first, second := one.Renew(), one.Renew()
	if bytes.Equal(first.Sample, second.Sample) || first.MachineId == second.MachineId {
		t.Error("two renewals gave the same random bytes or machine id")
	}
}
