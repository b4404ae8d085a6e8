// SPDX-License-Identifier: Apache-2.0

//go:build unix

package stream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"byre.dev/byre/internal/engine/stream"
)

// sink is a log that keeps everything in memory.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(_ string, p []byte, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Write(p)
	return nil
}

func (s *sink) Flush(string, time.Time) error { return nil }

func (s *sink) Pending(string) bool { return false }

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func create(t *testing.T, cfg stream.Config) *stream.Hub {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Name = "init"
	h, err := stream.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// shim opens a FIFO as a shim does.
func shim(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readAll(ctx context.Context, c *stream.Client) (string, error) {
	var b strings.Builder
	for {
		chunk, err := c.Next(ctx)
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
		b.Write(chunk.Data)
	}
}

func TestClientAttachedBeforeTheStartMissesNothing(t *testing.T) {
	h := create(t, stream.Config{Terminal: true})
	c := h.Attach(stream.Stdout)
	defer c.Detach()
	_, path, _ := h.Paths()
	w := shim(t, path)
	if _, err := w.WriteString("first words\n"); err != nil {
		t.Fatal(err)
	}
	h.Run()
	h.Opened()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h.Finish(10 * time.Second)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t.Context(), c)
	if got != "first words\n" || err != nil {
		t.Fatalf("got %q, error %v", got, err)
	}
}

func TestOutputGoesOnUnderAReopenedHub(t *testing.T) {
	log := &sink{}
	cfg := stream.Config{Dir: t.TempDir(), Name: "init", Terminal: true, Sink: log}
	h := create(t, cfg)
	_, path, _ := h.Paths()
	w := shim(t, path)
	h.Run()
	h.Opened()
	if _, err := w.WriteString("before\n"); err != nil {
		t.Fatal(err)
	}
	for log.String() != "before\n" {
		time.Sleep(time.Millisecond)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("between\n"); err != nil {
		t.Fatal(err)
	}
	again, err := stream.Reopen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.Run()
	if _, err := w.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again.Finish(10 * time.Second)
	if got := log.String(); got != "before\nbetween\nafter\n" {
		t.Fatalf("logged %q", got)
	}
}

func TestSlowClientHoldsTheProcessUpAndLosesNothing(t *testing.T) {
	h := create(t, stream.Config{Terminal: true})
	c := h.Attach(stream.Stdout)
	defer c.Detach()
	_, path, _ := h.Paths()
	w := shim(t, path)
	h.Run()
	h.Opened()
	const size = 5 << 20
	var wg sync.WaitGroup
	written := make(chan struct{})
	wg.Go(func() {
		defer close(written)
		if _, err := w.Write(bytes.Repeat([]byte("x"), size)); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-written:
		t.Fatal("the writer was not held up")
	case <-time.After(200 * time.Millisecond):
	}
	wg.Go(func() {
		h.Finish(10 * time.Second)
		_ = h.Close()
	})
	got, err := readAll(t.Context(), c)
	if len(got) != size || err != nil {
		t.Fatalf("got %d of %d bytes, error %v", len(got), size, err)
	}
	wg.Wait()
}

func TestDetachedClientHoldsNobodyUp(t *testing.T) {
	log := &sink{}
	h := create(t, stream.Config{Terminal: true, Sink: log})
	c := h.Attach(stream.Stdout)
	_, path, _ := h.Paths()
	w := shim(t, path)
	h.Run()
	h.Opened()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 3<<20)); err != nil {
			t.Error(err)
		}
		_ = w.Close()
	})
	time.Sleep(50 * time.Millisecond)
	c.Detach()
	wg.Wait()
	h.Finish(10 * time.Second)
	if n := len(log.String()); n != 3<<20 {
		t.Fatalf("logged %d bytes", n)
	}
}

func TestFinishGivesUpOnOutputThatDoesNotEnd(t *testing.T) {
	h := create(t, stream.Config{Terminal: true})
	_, path, _ := h.Paths()
	w := shim(t, path)
	defer w.Close()
	h.Run()
	h.Opened()
	done := make(chan struct{})
	go func() { h.Finish(50 * time.Millisecond); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Finish waits for ever")
	}
}

func TestDetachKeysEndTheInputAndDoNotReachTheProcess(t *testing.T) {
	h := create(t, stream.Config{Terminal: true, Stdin: true})
	in, _, _ := h.Paths()
	r := shim(t, in)
	defer r.Close()
	err := h.CopyStdin(strings.NewReader("ab\x10c\x10\x11never"), stream.DefaultDetachKeys())
	if !errors.Is(err, stream.ErrDetached) {
		t.Fatalf("error %v, want %v", err, stream.ErrDetached)
	}
	got := make([]byte, 16)
	n, err := r.Read(got)
	if string(got[:n]) != "ab\x10c" || err != nil {
		t.Fatalf("the process read %q, error %v", got[:n], err)
	}
}

func TestParseKeys(t *testing.T) {
	for s, want := range map[string]string{"": "\x10\x11", "ctrl-a,b": "\x01b", "ctrl-@,ctrl-[,ctrl-_": "\x00\x1b\x1f"} {
		if got, err := stream.ParseKeys(s); string(got) != want || err != nil {
			t.Errorf("%q: %q, error %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"ctrl-", "ctrl-A", "abc", "a,,b"} {
		if _, err := stream.ParseKeys(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}
