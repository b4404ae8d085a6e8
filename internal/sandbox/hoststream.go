// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"byre.dev/byre/internal/guestapi"
)

// serveStreams takes the streams that the guest opens to a port, most of them at
// once, until ctx ends. serve owns its connection.
func (s *Sandbox) serveStreams(ctx context.Context, port uint32, most int, serve func(context.Context, net.Conn)) error {
	l, err := s.machine.Listen(port)
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	s.work.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		var streams sync.WaitGroup
		defer streams.Wait()
		slots := make(chan struct{}, most)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case slots <- struct{}{}:
				streams.Go(func() {
					defer func() { <-slots }()
					serve(ctx, conn)
				})
			default:
				_ = conn.Close()
			}
		}
	})
	return nil
}

// prefaceWait bounds the time a stream of the guest's may take to say what it
// is for.
const prefaceWait = 10 * time.Second

// admit reads what a stream of the guest's is for. One that does not prove
// itself is closed.
func (s *Sandbox) admit(conn net.Conn, port uint32) (guestapi.Preface, error) {
	_ = conn.SetDeadline(time.Now().Add(prefaceWait))
	p, err := guestapi.ReadPreface(conn, port, s.link.secret)
	if err != nil {
		s.log.Warn("stream refused", "port", port, "err", err)
		_ = conn.Close()
	}
	return p, err
}

// refuse answers a stream that was admitted and closes it.
func (s *Sandbox) refuse(conn net.Conn, why error) {
	_ = guestapi.Refuse(conn, why.Error())
	_ = conn.Close()
}

// accept answers a stream that was admitted; it closes one that is gone.
func accept(conn net.Conn) error {
	if err := guestapi.Accept(conn); err != nil {
		_ = conn.Close()
		return err
	}
	return conn.SetDeadline(time.Time{})
}
