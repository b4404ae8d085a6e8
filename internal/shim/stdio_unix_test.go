// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOutputThatNobodyReadYetOutlivesItsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "last words"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * lingerEvery)
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "last words" || err != nil {
		t.Fatalf("a later reader got %q, error %v; want the last words and the end", got, err)
	}
}

func TestSecondCloseOfAnOutputIsFinal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "unheard"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatal("an output that was closed twice still takes bytes")
	}
}
