// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"io"
	"net"
	"sync"
)

// relayBuffer is what each direction of a connection copies at a time.
const relayBuffer = 64 << 10

// halfCloser is a stream whose directions end one by one.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relay copies both ways between two streams until both directions have ended
// or ctx has, and closes both. An end in one direction is passed on as such; an
// error ends both.
func relay(ctx context.Context, a, b halfCloser) {
	closeBoth := func() {
		reset(a)
		reset(b)
	}
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		if !pump(a, b) {
			closeBoth()
		}
	})
	if !pump(b, a) {
		closeBoth()
	}
	back.Wait()
	_ = a.Close()
	_ = b.Close()
}

// pump copies from src to dst until src ends, and says whether it did so in
// order.
func pump(dst, src halfCloser) bool {
	buf := make([]byte, relayBuffer)
	// The plain interfaces keep io from choosing smaller buffers of its own.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	return err == nil && dst.CloseWrite() == nil
}

// reset closes a connection so that its peer sees that it was cut.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		// It fails on a connection that is closed already.
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
