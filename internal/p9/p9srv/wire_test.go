// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"context"
	"io"
	"net"
	"testing"

	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// testWire speaks the protocol frame by frame.
type testWire struct {
	testing.TB
	conn net.Conn
	tag  uint16
	end  chan error
	ctx  context.CancelFunc
}

// newWire serves srv; what Serve returns comes on end.
func newWire(tb testing.TB, srv *p9srv.Server) *testWire {
	here, there := p9test.SocketPair(tb)
	ctx, cancel := context.WithCancel(context.Background())
	w := &testWire{TB: tb, conn: here, end: make(chan error, 1), ctx: cancel}
	// The cleanup waits for it.
	go func() { w.end <- srv.Serve(ctx, there); close(w.end) }()
	tb.Cleanup(func() { here.Close(); cancel(); <-w.end })
	return w
}

// session begins a session and attaches as fid 0.
func (w *testWire) session() *testWire {
	w.Helper()
	w.send(p9.NoTag, &p9.Tversion{Msize: 64 << 10, Version: p9.Version})
	w.send(0, &p9.Tattach{AFID: p9.NoFID})
	w.frames(2)
	return w
}

func (w *testWire) send(tag uint16, m p9.Message) {
	w.Helper()
	if _, err := w.conn.Write(p9.AppendFrame(nil, tag, m)); err != nil {
		w.Fatal(err)
	}
}

// call sends m and returns the next reply.
func (w *testWire) call(m p9.Message) p9.Message {
	w.Helper()
	w.tag++
	w.send(w.tag, m)
	return w.frames(1)[0]
}

func (w *testWire) frame() (p9.Message, error) {
	var h [p9.HeaderSize]byte
	if _, err := io.ReadFull(w.conn, h[:]); err != nil {
		return nil, err
	}
	size, typ, tag := p9.Header(h[:])
	w.tag = tag
	body := make([]byte, size-p9.HeaderSize)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return nil, err
	}
	m := p9.New(typ)
	return m, p9.Decode(body, m)
}
