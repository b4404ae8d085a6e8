// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

// pingMTU is a card's largest: a frame of it is more than a socket takes at
// once in every state.
const pingMTU = 65520

// slowSwitch has the guest send large frames of many sizes to a switch that
// reads only when nothing more goes in. Each must be as the guest sent it.
func (s *suite) slowSwitch(t *testing.T) {
	m := s.start(t, vm.Config{})
	w := newWire(t)
	at := m.attachNIC(t, w)
	_, err := m.guest.ConfigureNetwork(bounded(t), &guestapi.NetworkRequest{Links: []*guestapi.Link{{
		Device: at, Mac: card(1), Mtu: pingMTU, Addresses: []string{guest.String() + "/24"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(t, guest, 1)
	if _, err := w.conn.Write(arpRequest(here, guest)); err != nil { // tells whom to answer
		t.Fatal(err)
	}
	answers := 0
	const rounds, requests = 8, 48
	for round := range rounds {
		// What the guest has to send waits for the switch.
		for n := range requests {
			if err := w.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.conn.Write(ping(round*requests + n)); err != nil {
				t.Logf("round %d: the guest takes no request after %d", round, n)
				break
			}
			time.Sleep(5 * time.Millisecond) // the guest drops what comes in a burst
		}
		answers += w.readAnswers(t, round)
	}
	t.Logf("%d answers", answers)
	if answers < 5*rounds {
		t.Errorf("%d answers to %d requests", answers, rounds*requests)
	}
}

// readAnswers reads until nothing comes any more and returns how many answers
// of pings that were.
func (w *wire) readAnswers(t testing.TB, round int) (answers int) {
	t.Helper()
	for {
		if err := w.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		frame, err := w.frame()
		if e, ok := err.(net.Error); ok && e.Timeout() {
			return answers
		}
		if err != nil {
			t.Fatalf("round %d, after %d answers: %v", round, answers, err)
		}
		if !bytes.Equal(frame[:6], []byte{2, 0, 0, 0, 0, 0xfe}) && frame[0]&1 == 0 {
			t.Fatalf("round %d: a frame to %x", round, frame[:6])
		}
		if len(frame) < 1000 {
			continue
		}
		n := int(binary.BigEndian.Uint16(frame[40:]))
		want := ping(n)[4:]
		if len(frame) != len(want) || !bytes.Equal(frame[42:], want[42:]) {
			t.Fatalf("round %d: an answer of %d bytes to request %d of %d is not the request's", round, len(frame), n, len(want))
		}
		answers++
	}
}

// ping is an echo request (RFC 792) behind its length, with a number and a size
// and contents that go with it.
func ping(n int) []byte {
	body := bytes.Repeat([]byte{byte(n) | 1}, 40_000+n*977%25_000)
	icmp := append([]byte{8, 0, 0, 0, 0, 7, byte(n >> 8), byte(n)}, body...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0}
	ip = append(append(ip, here.AsSlice()...), guest.AsSlice()...)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(icmp)))
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	frame := append(append([]byte{}, card(1)...), 2, 0, 0, 0, 0, 0xfe, 8, 0)
	frame = append(append(frame, ip...), icmp...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
