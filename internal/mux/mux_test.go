// SPDX-License-Identifier: Apache-2.0

package mux_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"byre.dev/byre/internal/mux"
)

// pair returns two sessions over one pipe.
func pair(tb testing.TB) (host, guest *mux.Session) {
	tb.Helper()
	a, b := net.Pipe()
	host, err := mux.Client(a)
	if err != nil {
		tb.Fatal(err)
	}
	guest, err = mux.Server(b)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = host.Close()
		_ = guest.Close()
	})
	return host, guest
}

func listen(tb testing.TB, s *mux.Session, port uint32) net.Listener {
	tb.Helper()
	l, err := s.Listen(port)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func TestStreamsReachTheListenerOfTheirPort(t *testing.T) {
	host, guest := pair(t)
	for _, port := range []uint32{7, 8} {
		l := listen(t, guest, port)
		go func() { // ends with the session
			c, err := l.Accept()
			if err == nil {
				_, _ = c.Write([]byte{byte(port)})
				_ = c.Close()
			}
		}()
	}
	for _, port := range []uint32{8, 7} {
		c, err := host.Dial(t.Context(), port)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, []byte{byte(port)}) {
			t.Errorf("port %d: read %v, %v", port, b, err)
		}
	}
}

func TestPortWithoutListenerEndsTheStream(t *testing.T) {
	host, _ := pair(t)
	c, err := host.Dial(t.Context(), 99)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("read = %d, %v, want EOF", n, err)
	}
}

func TestHalfCloseLetsTheAnswerThrough(t *testing.T) {
	host, guest := pair(t)
	l := listen(t, guest, 1)
	go func() { // ends with the session
		c, err := l.Accept()
		if err != nil {
			return
		}
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
		_ = c.Close()
	}()
	c, err := host.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "QUESTION" {
		t.Fatalf("answer = %q, %v", b, err)
	}
}

func TestClosedReaderDoesNotBlockTheWriter(t *testing.T) {
	host, guest := pair(t)
	l := listen(t, guest, 1)
	wrote := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = c.Write(make([]byte, 8<<20))
			_ = c.Close()
		}
		wrote <- err
	}()
	c, err := host.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-wrote:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the writer is blocked")
	}
}

func TestBytesWrittenBeforeCloseReachASlowReader(t *testing.T) {
	host, guest := pair(t)
	l := listen(t, guest, 1)
	want := bytes.Repeat([]byte("0123456789abcdef"), 40<<10)
	go func() { // ends with the session
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Write(want)
			_ = c.Close()
		}
	}()
	c, err := host.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d bytes arrived, want %d", got.Len(), len(want))
	}
}

func TestCloseWakesABlockedRead(t *testing.T) {
	host, guest := pair(t)
	listen(t, guest, 1)
	c, err := host.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { // received below
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	_ = c.Close()
	select {
	case err := <-read:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("Read = %v, want net.ErrClosed", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Read is blocked")
	}
}

// TestPeerThatNeverEndsItsStreamsLosesTheSession speaks raw yamux: it opens
// streams, and when they are refused it leaves them open.
func TestPeerThatNeverEndsItsStreamsLosesTheSession(t *testing.T) {
	a, b := net.Pipe()
	s, err := mux.Client(a)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg := yamux.DefaultConfig()
	cfg.AcceptBacklog = 1 << 16
	cfg.LogOutput = io.Discard
	peer, err := yamux.Server(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	for range 1 << 12 {
		st, err := peer.OpenStream()
		if err == nil {
			_, err = st.Write([]byte{0, 0, 0, 1})
		}
		if err != nil {
			break
		}
	}
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("session survives")
	}
}

func TestSecondListenerOfAPortIsRefused(t *testing.T) {
	_, guest := pair(t)
	l := listen(t, guest, 1)
	if _, err := guest.Listen(1); !errors.Is(err, mux.ErrPortTaken) {
		t.Fatalf("second Listen = %v, want ErrPortTaken", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	listen(t, guest, 1)
}

func TestCloseEndsListenersStreamsAndGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	host, guest := pair(t)
	l := listen(t, guest, 1)
	c, err := host.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	<-guest.Done()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the end = %v, want net.ErrClosed", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read of a stream of an ended session succeeds")
	}
	_ = guest.Close()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestDialOfAnEndedSessionFails(t *testing.T) {
	host, guest := pair(t)
	_ = guest.Close()
	<-host.Done()
	if _, err := host.Dial(t.Context(), 1); err == nil {
		t.Fatal("Dial succeeds")
	}
}

func TestDialHeedsItsContext(t *testing.T) {
	host, _ := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := host.Dial(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("Dial = %v, want the context's error", err)
	}
}

func TestGarbageEndsTheSessionAlone(t *testing.T) {
	a, b := net.Pipe()
	s, err := mux.Client(a)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when the session closes the pipe
		for {
			if _, err := b.Write(bytes.Repeat([]byte{0xff}, 4096)); err != nil {
				return
			}
		}
	}()
	select {
	case <-s.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("session survives garbage")
	}
	_ = s.Close()
}

func BenchmarkThroughput(b *testing.B) {
	host, guest := pair(b)
	l := listen(b, guest, 1)
	go func() { // ends with the session
		c, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	c, err := host.Dial(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// counted notes how long the writes to a connection are.
type counted struct {
	net.Conn
	mu sync.Mutex
	// sizes is guarded by mu.
	sizes []int
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.sizes = append(c.sizes, len(b))
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func TestLongWritesFillTheBuffersOfAPort(t *testing.T) {
	a, b := net.Pipe()
	wire := &counted{Conn: a}
	host, err := mux.Client(wire)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	guest, err := mux.Server(b)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	l := listen(t, guest, 1)
	read := make(chan int64, 1)
	go func() { // received below
		c, err := l.Accept()
		if err != nil {
			read <- 0
			return
		}
		n, _ := io.Copy(io.Discard, c)
		read <- n
	}()
	c, err := host.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	const parts = 64
	if _, err := c.Write(make([]byte, parts*mux.Chunk)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := <-read; n != parts*mux.Chunk {
		t.Fatalf("%d bytes arrived, %d were written", n, parts*mux.Chunk)
	}
	wire.mu.Lock()
	defer wire.mu.Unlock()
	whole := 0
	for _, n := range wire.sizes {
		if n > 0 && n%(32<<10) == 0 {
			whole++
		}
	}
	// Where the window is used up a part goes in two.
	if whole < parts/2 {
		t.Errorf("%d of %d parts were whole buffers: %v", whole, parts, wire.sizes)
	}
}

func TestBufferGrowsWhileReadsFillIt(t *testing.T) {
	buf := mux.Buffer(nil, 0)
	first := len(buf)
	if buf = mux.Buffer(buf, first-1); len(buf) != first {
		t.Errorf("a read that does not fill a buffer of %d makes one of %d", first, len(buf))
	}
	for range 20 {
		buf = mux.Buffer(buf, len(buf))
	}
	if len(buf) != mux.Chunk {
		t.Errorf("a buffer that is always filled has %d bytes, want %d", len(buf), mux.Chunk)
	}
}
