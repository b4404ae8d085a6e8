// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

func (s *suite) answers(t *testing.T) {
	m := s.start(t, vm.Config{})
	info := m.Info()
	if info.Driver != s.cfg.Driver.Name() || info.Accel == "" || len(info.Stages) == 0 {
		t.Errorf("Info = %+v", info)
	}
	if s.cfg.Cloned && !info.Cloned {
		t.Error("the machine is no clone")
	}
	if got, want := m.total(t), m.Memory(); got > want || got < want/2 {
		t.Errorf("the guest has %d bytes of memory, the driver says %d", got, want)
	}
	select {
	case <-m.Done():
		t.Errorf("Done is closed: %v", m.Err())
	default:
	}
	if err := m.Err(); err != nil {
		t.Errorf("Err of a running machine = %v", err)
	}
}

func (s *suite) differ(t *testing.T) {
	a, b := s.start(t, vm.Config{}), s.start(t, vm.Config{})
	if bytes.Equal(a.renewed.GetSample(), b.renewed.GetSample()) {
		t.Error("two machines give the same random bytes")
	}
	if a.renewed.GetMachineId() == b.renewed.GetMachineId() {
		t.Errorf("two machines have the machine id %q", a.renewed.GetMachineId())
	}
	for _, m := range []*machine{a, b} {
		off := time.Since(time.Unix(0, m.renewed.GetWallTimeNs()))
		if off < 0 || off > callLimit {
			t.Errorf("the guest's clock is off by %v", off)
		}
	}
}

func (s *suite) together(t *testing.T) {
	var g errgroup.Group
	ctx := bounded(t)
	for range 4 {
		g.Go(func() error {
			m, err := s.cfg.Driver.Start(ctx, vm.Config{Name: "vmtest-many"})
			if err != nil {
				return err
			}
			conn, err := m.Dial(ctx, guestapi.PortAgent)
			if err == nil {
				limit(t, conn)
				err = guestapi.Preface{Port: guestapi.PortAgent}.Open(conn, make([]byte, guestapi.SecretSize))
			}
			return errors.Join(err, m.Close())
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) startGivenUp(t *testing.T) {
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		m, err := s.cfg.Driver.Start(ctx, vm.Config{Name: "vmtest-given-up"})
		cancel()
		if err == nil {
			if after == 0 {
				t.Error("Start under a context that has ended succeeds")
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start given up after %v = %v, want the context's error", after, err)
		}
	}
}

// listens mounts a share over the link: the guest dials the host for it.
func (s *suite) listens(t *testing.T) {
	m := s.start(t, vm.Config{})
	l, err := m.Listen(guestapi.PortShare)
	if err != nil {
		t.Fatal(err)
	}
	mounted := make(chan error, 1)
	go func() { // received below
		mounted <- m.mount(t, &guestapi.Mount{
			Target: guestapi.RuntimeDir + "/shares/probe",
			Source: &guestapi.Mount_Share{Share: &guestapi.Share{Name: "probe", Transport: guestapi.Share_LINK, Cache: "none", Msize: 65536}},
		})
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	limit(t, conn)
	p, err := guestapi.ReadPreface(conn, guestapi.PortShare, m.secret)
	if err != nil || p.Name != "probe" {
		t.Errorf("preface = %+v, %v", p, err)
	}
	if err := guestapi.Refuse(conn, "no such share"); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	if err := <-mounted; err == nil {
		t.Error("the mount of a refused share succeeds")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the machine's end = %v, want net.ErrClosed", err)
	}
}

func (s *suite) deaf(t *testing.T) {
	m := s.start(t, vm.Config{})
	conn, err := m.Dial(bounded(t), 4242)
	if err != nil {
		return // refused at once is as good
	}
	defer conn.Close()
	limit(t, conn)
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("read of a stream to a deaf port = %d, %v", n, err)
	}
}

func (s *suite) powerOff(t *testing.T) {
	m := s.start(t, vm.Config{})
	if _, err := m.guest.PowerOff(bounded(t), &guestapi.PowerOffRequest{}); err != nil {
		t.Fatalf("PowerOff: %v", err)
	}
	s.awaitEnd(t, m)
	if err := m.Err(); err != nil {
		t.Errorf("Err after an orderly end = %v", err)
	}
}

func (s *suite) awaitEnd(t *testing.T, m *machine) {
	t.Helper()
	select {
	case <-m.Done():
	case <-time.After(callLimit):
		t.Fatal("the machine does not end")
	}
}

func (s *suite) closes(t *testing.T) {
	m := s.start(t, vm.Config{})
	port, portErr := m.AddPort(bounded(t), guestapi.SharePortPrefix+"closing")
	conn, err := m.Dial(bounded(t), guestapi.PortAgent)
	if err != nil {
		t.Fatal(err)
	}
	limit(t, conn)
	var g errgroup.Group
	for range 3 {
		g.Go(m.Close)
	}
	if err := g.Wait(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s.awaitEnd(t, m)
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a stream of a closed machine can be read")
	}
	if portErr == nil {
		if _, err := port.Read(make([]byte, 1)); err == nil {
			t.Error("a port of a closed machine can be read")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := m.Dial(ctx, guestapi.PortAgent); err == nil {
		t.Error("Dial of a closed machine succeeds")
	}
	if _, err := m.AttachDisk(ctx, vm.Disk{Path: s.cfg.NewDisk(t)}); err == nil {
		t.Error("AttachDisk to a closed machine succeeds")
	}
	if err := m.SetMemory(ctx, m.Memory()+1<<30); err == nil {
		t.Error("SetMemory of a closed machine succeeds")
	}
}
