// SPDX-License-Identifier: Apache-2.0

package stdio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"byre.dev/byre/internal/guest/stdio"
)

// stream returns the host's and the guest's end of one. Ends are sockets, which
// buffer, as the link's streams do.
func stream(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if host, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if guest, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		host.Close()
		guest.Close()
	})
	return host, guest
}

// pipe is a process's standard stream.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestStreamAndTakerMeetInEitherOrder(t *testing.T) {
	h := stdio.NewHub()
	defer h.Close()
	_, first := stream(t)
	if err := h.Put("a", first); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Take(t.Context(), "a"); err != nil || got != first {
		t.Errorf("stream that was there: %v, %v", got, err)
	}
	_, second := stream(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := h.Take(t.Context(), "b"); err != nil || got != second {
			t.Errorf("stream that came later: %v, %v", got, err)
		}
	})
	time.Sleep(20 * time.Millisecond)
	if err := h.Put("b", second); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestStreamsThatNobodyMayHaveAreClosed(t *testing.T) {
	h := stdio.NewHub()
	host, guest := stream(t)
	if err := h.Put("", guest); err == nil || !closed(t, host) {
		t.Errorf("a stream without a name: %v", err)
	}
	waiting, guest := stream(t)
	if err := h.Put("a", guest); err != nil {
		t.Fatal(err)
	}
	host, guest = stream(t)
	if err := h.Put("a", guest); err == nil || !closed(t, host) {
		t.Errorf("a second stream of the name: %v", err)
	}
	for i := range 255 {
		_, guest := net.Pipe()
		if err := h.Put(fmt.Sprint(i), guest); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Check("one more"); err == nil {
		t.Error("streams may wait without a bound")
	}
	h.Reset()
	if !closed(t, waiting) {
		t.Error("a stream outlives the link it came by")
	}
	if err := h.Check("one more"); err != nil {
		t.Errorf("after the reset: %v", err)
	}
	h.Close()
	if err := h.Check("a"); err == nil {
		t.Error("a closed hub takes streams")
	}
	if _, err := h.Take(t.Context(), "a"); err == nil {
		t.Error("a closed hub gives streams")
	}
}

func TestWaitEndsWithItsContextAndGivesTheNameBack(t *testing.T) {
	h := stdio.NewHub()
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Take(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	stop := make(chan struct{})
	close(stop)
	if _, err := h.Await(t.Context(), "a", stop); err == nil {
		t.Error("a stopped wait got a stream")
	}
	_, guest := stream(t)
	if err := h.Put("a", guest); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Take(t.Context(), "a"); err != nil || got != guest {
		t.Errorf("the next taker: %v, %v", got, err)
	}
}

func TestOutputArrivesToTheLastByte(t *testing.T) {
	host, guest := stream(t)
	r, w := pipe(t)
	o := stdio.StartOutput(r, guest)
	text := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB, far over a pipe's capacity
	var wg sync.WaitGroup
	wg.Go(func() {
		io.WriteString(w, text)
		w.Close()
	})
	got, err := io.ReadAll(host)
	wg.Wait()
	if err != nil || string(got) != text {
		t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
	}
	if err := o.Drain(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
}

func TestAProcessIsNotStuckOnOutputThatTheHostGaveUp(t *testing.T) {
	host, guest := stream(t)
	r, w := pipe(t)
	o := stdio.StartOutput(r, guest)
	host.Close()
	w.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if n, err := w.Write(bytes.Repeat([]byte("x"), 4<<20)); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	w.Close()
	if err := o.Drain(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
}

func TestDrainGivesUpASourceThatIsHeldOpenAndSilent(t *testing.T) {
	host, guest := stream(t)
	r, w := pipe(t) // w stays open, as a daemon of the container would hold it
	o := stdio.StartOutput(r, guest)
	io.WriteString(w, "said")
	if err := o.Drain(t.Context(), 50*time.Millisecond); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(host); err != nil || string(got) != "said" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDrainWaitsForASlowReaderUntilItsContextEnds(t *testing.T) {
	guest, host := net.Pipe() // nothing is buffered: the write waits
	defer host.Close()
	r, w := pipe(t)
	o := stdio.StartOutput(r, guest)
	io.WriteString(w, "waits")
	w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := o.Drain(ctx, 10*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func TestInputOutlivesItsStreamAndEndsBehindItsLastByte(t *testing.T) {
	h := stdio.NewHub()
	defer h.Close()
	host, guest := stream(t)
	r, w := pipe(t)
	in := stdio.StartInput(h, "in", guest, w)
	io.WriteString(host, "one ")
	host.Close()
	again, guest := stream(t)
	if err := h.Put("in", guest); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("y", 1<<20)
	var wg sync.WaitGroup
	wg.Go(func() {
		io.WriteString(again, long)
		in.CloseInput()
		in.CloseInput()
		again.Close()
	})
	got, err := io.ReadAll(r)
	wg.Wait()
	if want := "one " + long; err != nil || string(got) != want {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

func TestInputEndsWhenASilentHostHasClosedIt(t *testing.T) {
	h := stdio.NewHub()
	defer h.Close()
	_, guest := stream(t)
	r, w := pipe(t)
	in := stdio.StartInput(h, "in", guest, w)
	begin := time.Now()
	in.CloseInput()
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("after %v", took)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

func TestInputThatIsClosedEndsAtOnce(t *testing.T) {
	h := stdio.NewHub()
	defer h.Close()
	host, guest := stream(t)
	r, w := pipe(t)
	in := stdio.StartInput(h, "in", guest, w)
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
	if !closed(t, host) {
		t.Error("the host's stream is left open")
	}
}
