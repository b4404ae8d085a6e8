// SPDX-License-Identifier: Apache-2.0

package guestapi_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"byre.dev/byre/internal/guestapi"
)

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, guestapi.SecretSize) }

// exchange opens a preface on one end of a pipe and answers on the other.
func exchange(t *testing.T, p guestapi.Preface, opener, reader []byte, answer func(io.Writer, error) error) (got guestapi.Preface, readErr, openErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() { done <- p.Open(a, opener) }() // received below
	got, readErr = guestapi.ReadPreface(b, p.Port, reader)
	if err := answer(b, readErr); err != nil {
		t.Fatal(err)
	}
	return got, readErr, <-done
}

func byRule(w io.Writer, err error) error {
	if err != nil {
		return guestapi.Refuse(w, err.Error())
	}
	return guestapi.Accept(w)
}

func TestPrefaceWithTheRightSecretIsAccepted(t *testing.T) {
	for _, name := range []string{"", "a", strings.Repeat("n", guestapi.MaxStreamName)} {
		p := guestapi.Preface{Port: guestapi.PortStdio, Name: name}
		got, readErr, openErr := exchange(t, p, secret(1), secret(1), byRule)
		if got != p || readErr != nil || openErr != nil {
			t.Errorf("name of %d bytes: %v, %v, %v", len(name), got, readErr, openErr)
		}
	}
}

func TestPrefaceWithAnotherSecretIsRefused(t *testing.T) {
	p := guestapi.Preface{Port: guestapi.PortAgent}
	_, readErr, openErr := exchange(t, p, secret(1), secret(2), byRule)
	if readErr == nil || !errors.Is(openErr, guestapi.ErrRefused) || !strings.Contains(openErr.Error(), "secret") {
		t.Errorf("read: %v, open: %v", readErr, openErr)
	}
}

func TestPrefaceProofBindsPortAndName(t *testing.T) {
	var b bytes.Buffer
	rw := struct {
		io.Reader
		io.Writer
	}{bytes.NewReader([]byte{0}), &b}
	if err := (guestapi.Preface{Port: 1, Name: "n"}).Open(rw, secret(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := guestapi.ReadPreface(bytes.NewReader(b.Bytes()), 2, secret(1)); err == nil {
		t.Error("a preface for port 1 was taken on port 2")
	}
	raw := b.Bytes()
	raw[5] ^= 1
	if _, err := guestapi.ReadPreface(bytes.NewReader(raw), 1, secret(1)); err == nil {
		t.Error("a preface with another name was taken")
	}
}

func TestRefusalTextIsBounded(t *testing.T) {
	var b bytes.Buffer
	if err := guestapi.Refuse(&b, strings.Repeat("x", 1000)); err != nil || b.Len() != 256 {
		t.Errorf("refusal of %d bytes, %v; want 256", b.Len(), err)
	}
	b.Reset()
	if guestapi.Refuse(&b, ""); b.Len() < 2 || b.Bytes()[0] == 0 {
		t.Errorf("an empty refusal reads as acceptance: %q", b.Bytes())
	}
}

func TestLongNameIsNotSent(t *testing.T) {
	p := guestapi.Preface{Name: strings.Repeat("x", guestapi.MaxStreamName+1)}
	if err := p.Open(struct{ io.ReadWriter }{}, secret(1)); err == nil {
		t.Error("a name over the bound was sent")
	}
}

func FuzzReadPreface(f *testing.F) {
	f.Add([]byte("byr1\x00"), uint32(1024))
	f.Add(append([]byte("byr1\x03abc"), make([]byte, 32)...), uint32(1025))
	f.Add([]byte("byr1\xff"), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, port uint32) {
		r := bytes.NewReader(b)
		p, err := guestapi.ReadPreface(r, port, secret(9))
		if read := len(b) - r.Len(); read > 5+guestapi.MaxStreamName+32 {
			t.Errorf("read %d bytes", read)
		}
		if err != nil {
			return
		}
		// Whatever is accepted is what Open would have sent.
		var sent bytes.Buffer
		rw := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader([]byte{0}), &sent}
		if err := p.Open(rw, secret(9)); err != nil || !bytes.HasPrefix(b, sent.Bytes()) {
			t.Errorf("accepted %q, %v", p.Name, err)
		}
	})
}
