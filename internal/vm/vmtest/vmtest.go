// SPDX-License-Identifier: Apache-2.0

// Package vmtest is the suite that every driver of package vm must pass, with
// the real guest image: what a machine promises is looked at from both sides,
// the host's through vm.Machine and the guest's through its agent.
package vmtest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/containerd/ttrpc"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

// Config says what is tested.
type Config struct {
	// Driver starts the machines.
	Driver vm.Driver
	// NewDisk makes an ext4 image that the test may write to and returns its
	// path; it is removed with the test.
	NewDisk func(testing.TB) string
	// HostMemory returns what a machine costs its host, in bytes; nil leaves
	// the tests of it out.
	HostMemory func(testing.TB, vm.Machine) uint64
	// Cloned is true when every machine must be a clone.
	Cloned bool
	// Disks is how many disks the driver must take; 0 means 64.
	Disks int
}

// callLimit bounds every call of the suite: hosts under test are slow.
const callLimit = 90 * time.Second

// Run runs the suite.
func Run(t *testing.T, cfg Config) {
	if cfg.Disks == 0 {
		cfg.Disks = 64
	}
	s := &suite{cfg}
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"MachineAnswersAndSaysWhatItIs", s.answers},
		{"MachinesDiffer", s.differ},
		{"MachinesStartAtTheSameTime", s.together},
		{"StartHeedsItsContext", s.startGivenUp},
		{"GuestReachesListenersOfTheHost", s.listens},
		{"StreamsToDeafPortsEnd", s.deaf},
		{"DisksArePluggedAndUnplugged", s.disks},
		{"DisksBelongToOneWriterOrManyReaders", s.sharedDisks},
		{"AsManyDisksAsPromised", s.manyDisks},
		{"PortsArePluggedAndUnplugged", s.ports},
		{"PortsRunOut", s.manyPorts},
		{"CardsAreAttachedAndDetached", s.nics},
		{"ACardOfAYoungCloneGoesUpAndDown", s.restlessNIC},
		{"CardsRunOut", s.manyNICs},
		{"ASlowSwitchGetsWholeFrames", s.slowSwitch},
		{"ADeadSwitchTakesNoCardWithIt", s.deadSwitch},
		{"ACardThatIsUpIsSetUpAnewAtOnce", s.setUpAnew},
		{"MemoryGrowsAndShrinks", s.memory},
		{"FreedMemoryGoesBackToTheHost", s.memoryBack},
		{"PowerOffIsAnOrderlyEnd", s.powerOff},
		{"CloseEndsEverything", s.closes},
	} {
		t.Run(c.name, c.test)
	}
}

type suite struct{ cfg Config }

// machine is a machine with the agent's connection.
type machine struct {
	vm.Machine
	guest   guestapi.GuestClient
	renewed *guestapi.RenewResponse
	secret  []byte
}

// start starts a machine, greets its agent and renews it.
func (s *suite) start(t testing.TB, cfg vm.Config) *machine {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "vmtest"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	m, err := s.cfg.Driver.Start(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console: %q", m.Console())
		}
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	mm := &machine{Machine: m}
	mm.greet(t)
	return mm
}

func (m *machine) greet(t testing.TB) {
	t.Helper()
	conn, err := m.Dial(bounded(t), guestapi.PortAgent)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(callLimit)); err != nil {
		t.Fatal(err)
	}
	if err := (guestapi.Preface{Port: guestapi.PortAgent}).Open(conn, make([]byte, guestapi.SecretSize)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	t.Cleanup(func() { _ = client.Close() })
	m.guest = guestapi.NewGuestClient(client)
	if _, err := m.guest.Hello(bounded(t), &guestapi.HelloRequest{Version: guestapi.Version, Build: "vmtest"}); err != nil {
		t.Fatalf("Hello: %v", err)
	}
	m.renew(t)
}

func (m *machine) renew(t testing.TB) {
	t.Helper()
	seed, nonce := make([]byte, 64), make([]byte, 32)
	m.secret = make([]byte, guestapi.SecretSize)
	for _, b := range [][]byte{seed, nonce, m.secret} {
		_, _ = rand.Read(b)
	}
	r, err := m.guest.Renew(bounded(t), &guestapi.RenewRequest{
		Seed: seed, WallTimeNs: time.Now().UnixNano(), Hostname: "vmtest", Secret: m.secret, Nonce: nonce,
	})
	if err != nil {
		t.Fatalf("Renew: %v", err)
	}
	mac := hmac.New(sha256.New, m.secret)
	_, _ = mac.Write(nonce)
	if !hmac.Equal(mac.Sum(nil), r.GetProof()) {
		t.Fatal("the guest did not prove that it was renewed")
	}
	m.renewed = r
}

// mount mounts in the guest and returns the guest's answer.
func (m *machine) mount(t testing.TB, mounts ...*guestapi.Mount) error {
	t.Helper()
	_, err := m.guest.Mount(bounded(t), &guestapi.MountRequest{Mounts: mounts})
	return err
}

func (m *machine) unmount(t testing.TB, targets ...string) {
	t.Helper()
	if _, err := m.guest.Unmount(bounded(t), &guestapi.UnmountRequest{Targets: targets, Sync: true}); err != nil {
		t.Fatalf("unmount %v: %v", targets, err)
	}
}

// total is the memory that the guest says it has.
func (m *machine) total(t testing.TB) uint64 {
	t.Helper()
	r, err := m.guest.Memory(bounded(t), &guestapi.MemoryRequest{})
	if err != nil {
		t.Fatalf("Memory: %v", err)
	}
	return r.GetTotal()
}

// bounded is a context that ends with the test or after callLimit.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callLimit)
	t.Cleanup(cancel)
	return ctx
}

// limit keeps a stream from blocking the suite.
func limit(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(callLimit)); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f is true, and fails the test when it never is.
func eventually(t testing.TB, within time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", within, what)
		}
	}
}
