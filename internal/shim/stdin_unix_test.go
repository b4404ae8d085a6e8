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

// inputFIFO returns a FIFO, opened as a process's standard input, and its path.
func inputFIFO(t *testing.T) (input, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := openInput(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in, path
}

// write opens a FIFO as a client does, writes and closes it.
func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// readAll reads an input to its end in the background.
func readAll(in input) <-chan string {
	all := make(chan string, 1)
	go func() { // received by the test
		b, _ := io.ReadAll(in)
		all <- string(b)
	}()
	return all
}

func TestInputOutlivesItsWritersAndEndsWhenItIsFinished(t *testing.T) {
	in, path := inputFIFO(t)
	if err := in.begin(); err != nil {
		t.Fatal(err)
	}
	all := readAll(in)
	write(t, path, "one ")
	write(t, path, "two")
	select {
	case got := <-all:
		t.Fatalf("the input ended with its writer, after %q", got)
	case <-time.After(300 * time.Millisecond):
	}
	in.finish()
	if got := <-all; got != "one two" {
		t.Fatalf("read %q", got)
	}
}

func TestInputWhoseWriterIsGoneBeforeTheStartEnds(t *testing.T) {
	in, path := inputFIFO(t)
	write(t, path, "all there is")
	if err := in.begin(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-readAll(in):
		if got != "all there is" {
			t.Fatalf("read %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the input does not end: its writer knew no call to end it by")
	}
}

func TestInputThatNobodyHasOpenedYetWaits(t *testing.T) {
	in, path := inputFIFO(t)
	if err := in.begin(); err != nil {
		t.Fatal(err)
	}
	all := readAll(in)
	time.Sleep(100 * time.Millisecond)
	write(t, path, "late")
	in.finish()
	if got := <-all; got != "late" {
		t.Fatalf("read %q", got)
	}
}

func TestInputThatIsFinishedEndsBehindWhatWasWrittenAlthoughAWriterStays(t *testing.T) {
	in, path := inputFIFO(t)
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := in.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "before"); err != nil {
		t.Fatal(err)
	}
	in.finish()
	select {
	case got := <-readAll(in):
		if got != "before" {
			t.Fatalf("read %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a writer that stays holds the end up")
	}
}

func TestInputFinishedBeforeTheStartIsFinished(t *testing.T) {
	in, path := inputFIFO(t)
	p := newProcess("box", "", "", stdio{Stdin: path})
	p.endInput() // before there are streams
	p.setStreams(&streams{in: in})
	if err := in.begin(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-readAll(in):
		if got != "" {
			t.Fatalf("read %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("an input that was ended before the start does not end")
	}
}
