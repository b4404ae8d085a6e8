// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/vm"
)

// wire is a switch with one port and a host behind it that asks for addresses.
type wire struct {
	listener net.Listener
	conn     net.Conn
	// in reads conn with room for the largest packet of it.
	in *bufio.Reader
	// asked counts what was asked for.
	asked byte
}

// switchNetwork is what a switch listens on (vm.NIC).
func switchNetwork() string {
	if runtime.GOOS == "linux" {
		return "unixpacket"
	}
	return "unix"
}

// newWire listens for one card.
func newWire(t testing.TB) *wire {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmtest") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen(switchNetwork(), filepath.Join(dir, "port"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l}
	t.Cleanup(func() {
		_ = l.Close()
		if w.conn != nil {
			_ = w.conn.Close()
		}
		_ = os.RemoveAll(dir)
	})
	return w
}

// attach attaches a card of the machine to the wire.
func (m *machine) attachNIC(t testing.TB, w *wire) net.HardwareAddr {
	t.Helper()
	at, err := m.AttachNIC(bounded(t), vm.NIC{Socket: w.listener.Addr().String()})
	if errors.Is(err, errdefs.ErrNotImplemented) {
		testenv.Skip(t, testenv.Feature, "the driver has no network cards")
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.conn, err = w.listener.Accept(); err != nil {
		t.Fatal(err)
	}
	w.in = bufio.NewReaderSize(w.conn, 128<<10)
	return at
}

// setUp gives a card an address.
func (m *machine) setUp(t testing.TB, at net.HardwareAddr, n byte, address netip.Addr) {
	t.Helper()
	_, err := m.guest.ConfigureNetwork(bounded(t), &guestapi.NetworkRequest{Links: []*guestapi.Link{{
		Device: at, Mac: card(n), Addresses: []string{address.String() + "/24"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

// takeDown takes a card's address away.
func (m *machine) takeDown(t testing.TB, at net.HardwareAddr) {
	t.Helper()
	if _, err := m.guest.ConfigureNetwork(bounded(t), &guestapi.NetworkRequest{
		Links: []*guestapi.Link{{Device: at, Change: guestapi.Link_TAKE_DOWN}},
	}); err != nil {
		t.Fatal(err)
	}
}

var (
	here  = netip.MustParseAddr("10.9.0.1")
	guest = netip.MustParseAddr("10.9.0.2")
	other = netip.MustParseAddr("10.9.0.3")
)

// card is the address that the suite gives a card.
func card(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// ask sends ARP requests for an address until a card answers, and says whether
// it does. Answers of other cards do not count, nor those to what was asked
// before: a guest may have sent some to a switch that did not read them, and to
// each of several requests.
func (w *wire) ask(t testing.TB, address netip.Addr, mac net.HardwareAddr, wait time.Duration) bool {
	t.Helper()
	w.asked++
	from := netip.AddrFrom4([4]byte{10, 9, 0, 16 + w.asked%200})
	end := time.Now().Add(wait)
	if err := w.conn.SetDeadline(end); err != nil {
		t.Fatal(err)
	}
	replies := make(chan bool, 1)
	go func() { replies <- w.reply(address, mac, from) }() // ends with the deadline
	for {
		if _, err := w.conn.Write(arpRequest(from, address)); err != nil && time.Now().Before(end) {
			t.Fatal(err)
		}
		select {
		case got := <-replies:
			return got
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// arpRequest is a frame behind its length (RFC 826).
func arpRequest(from, address netip.Addr) []byte {
	f := []byte{0, 0, 0, 42, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xfe, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xfe}
	f = append(f, from.AsSlice()...)
	f = append(f, make([]byte, 6)...)
	return append(f, address.AsSlice()...)
}

// reply reads frames until one is a card's ARP reply for address to who asks.
func (w *wire) reply(address netip.Addr, mac net.HardwareAddr, asks netip.Addr) bool {
	for {
		frame, err := w.frame()
		if err != nil {
			return false
		}
		if len(frame) >= 42 && bytes.Equal(frame[12:22], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 2}) &&
			bytes.Equal(frame[22:28], mac) && bytes.Equal(frame[28:32], address.AsSlice()) &&
			bytes.Equal(frame[38:42], asks.AsSlice()) {
			return true
		}
	}
}

// frame reads a frame.
func (w *wire) frame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(w.in, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<16 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(w.in, frame)
	return frame, err
}

func (w *wire) expect(t testing.TB, address netip.Addr, n byte) {
	t.Helper()
	if !w.ask(t, address, card(n), callLimit) {
		t.Fatalf("%v is not at %v", address, card(n))
	}
}

// nics moves a card between switches while another is at work.
func (s *suite) nics(t *testing.T) {
	m := s.start(t, vm.Config{})
	a, b := newWire(t), newWire(t)
	first, second := m.attachNIC(t, a), m.attachNIC(t, b)
	if bytes.Equal(first, second) {
		t.Fatalf("two cards have the address %v", first)
	}
	m.setUp(t, first, 1, guest)
	a.expect(t, guest, 1)
	m.setUp(t, second, 2, other)
	b.expect(t, other, 2)

	m.takeDown(t, first)
	for _, w := range []*wire{a, b} {
		if w.ask(t, guest, card(1), time.Second) || w.ask(t, guest, card(2), time.Second) {
			t.Error("an address that was taken down is there still")
		}
	}
	if err := m.DetachNIC(bounded(t), first); err != nil {
		t.Fatal(err)
	}
	limit(t, a.conn)
	if _, err := io.Copy(io.Discard, a.conn); err != nil {
		t.Errorf("the switch of a detached card sees %v, want the end", err)
	}
	if err := m.DetachNIC(bounded(t), first); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("second DetachNIC = %v, want not found", err)
	}

	again := newWire(t)
	m.setUp(t, m.attachNIC(t, again), 3, guest)
	again.expect(t, guest, 3)
	b.expect(t, other, 2)
}

// restlessNIC has a card come and go while a clone's first seconds pass, in which
// whoever emulates it may have it announce itself.
func (s *suite) restlessNIC(t *testing.T) {
	m := s.start(t, vm.Config{})
	w := newWire(t)
	at := m.attachNIC(t, w)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		m.setUp(t, at, 1, guest)
		m.takeDown(t, at)
	}
	m.setUp(t, at, 1, guest)
	w.expect(t, guest, 1)
}

func (s *suite) manyNICs(t *testing.T) {
	m := s.start(t, vm.Config{})
	const bound = 1 << 8
	var first net.HardwareAddr
	n := 0
	for ; n < bound; n++ {
		w := newWire(t)
		at, err := m.AttachNIC(bounded(t), vm.NIC{Socket: w.listener.Addr().String()})
		if errors.Is(err, errdefs.ErrNotImplemented) {
			testenv.Skip(t, testenv.Feature, "the driver has no network cards")
		}
		if errors.Is(err, errdefs.ErrResourceExhausted) {
			break
		}
		if err != nil {
			t.Fatalf("card %d: %v", n, err)
		}
		if n == 0 {
			first = at
		}
	}
	if n == 0 || n == bound {
		t.Fatalf("the machine took %d cards", n)
	}
	t.Logf("the machine has %d cards", n)
	if _, err := m.AttachNIC(bounded(t), vm.NIC{Socket: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a card is attached to a switch that is not there")
	}
	if err := m.DetachNIC(bounded(t), first); err != nil {
		t.Fatal(err)
	}
	w := newWire(t)
	m.setUp(t, m.attachNIC(t, w), 1, guest)
	w.expect(t, guest, 1)
}

// deadSwitch ends a switch that did not read what the guest sent: the card is
// good for another.
func (s *suite) deadSwitch(t *testing.T) {
	m := s.start(t, vm.Config{})
	w := newWire(t)
	at := m.attachNIC(t, w)
	m.setUp(t, at, 1, guest)
	w.expect(t, guest, 1)
	m.clog(t, w)
	if err := w.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.DetachNIC(bounded(t), at); err != nil {
		t.Fatal(err)
	}
	next := newWire(t)
	m.setUp(t, m.attachNIC(t, next), 2, guest)
	next.expect(t, guest, 2)

	m.clog(t, next)
	if err := m.DetachNIC(bounded(t), at); err != nil {
		t.Fatal(err)
	}
	last := newWire(t)
	m.setUp(t, m.attachNIC(t, last), 3, guest)
	last.expect(t, guest, 3)
}

// setUpAnew moves a card that stays up from switch to switch. The guest is told how
// to set it up while it may not have heard that there is a carrier again.
func (s *suite) setUpAnew(t *testing.T) {
	m := s.start(t, vm.Config{})
	for n := range 40 {
		w := newWire(t)
		at := m.attachNIC(t, w)
		m.setUp(t, at, byte(n), guest)
		w.expect(t, guest, byte(n))
		if err := m.DetachNIC(bounded(t), at); err != nil {
			t.Fatal(err)
		}
	}
}

// clog has the guest answer more than anybody reads.
func (m *machine) clog(t testing.TB, w *wire) {
	t.Helper()
	request := arpRequest(here, guest)
	many := bytes.Repeat(request, 1000)
	for n := range 400 {
		if err := w.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.conn.Write(many); err != nil {
			t.Logf("the guest is clogged after %d requests", n*1000)
			break
		}
	}
	if err := w.conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}
