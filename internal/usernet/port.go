// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// prefixSize is the length before each frame on QEMU's stream: four bytes,
// big-endian.
const prefixSize = 4

// maxFrame is the longest frame that a NIC may send: a whole IP packet behind
// an Ethernet header with a VLAN tag. A longer one breaks the framing, and the
// connection ends.
const maxFrame = maxMTU + 18

// port is where an endpoint's NIC is attached: at most one connection at a
// time, and a new one takes the place of the old.
type port struct {
	s        *Switch
	ep       *endpoint
	listener net.Listener
	wg       sync.WaitGroup
	// nic is nil while none is attached.
	nic atomic.Pointer[nic]

	// mu guards closed, and the start of goroutines against close.
	mu     sync.Mutex
	closed bool
}

// nic is an attached NIC.
type nic struct {
	conn  net.Conn
	queue *frameQueue
}

// Attach makes conn the NIC of an endpoint, in place of the one before. The
// switch owns conn from here on, also when Attach fails.
func (s *Switch) Attach(id string, conn net.Conn) error {
	s.mu.Lock()
	ep := s.endpoints[id]
	s.lastUsed = time.Now()
	s.mu.Unlock()
	if ep == nil {
		return errors.Join(fmt.Errorf("network %s: endpoint %s: %w", s.cfg.Name, id, errdefs.ErrNotFound), conn.Close())
	}
	return ep.port.attach(conn)
}

// portNetwork is the network of an endpoint's socket. QEMU's hubs put a frame
// before one of which it has written a part (net_hub_flush), and what follows is
// garbage, or the end of the machine; on a socket of packets it writes all of a
// frame or nothing. Only Linux has them.
func portNetwork() string {
	if runtime.GOOS == "linux" {
		return "unixpacket"
	}
	return "unix"
}

// widen lets some frames wait in a socket: what a socket of packets holds has
// to shrink to a quarter before it takes more.
func widen(conn net.Conn) {
	if c, ok := conn.(*net.UnixConn); ok {
		// It is a wish, and the host's bound on it is no error.
		_ = c.SetWriteBuffer(1 << 20)
	}
}

// listen takes the NIC's connections on a Unix socket.
func (p *port) listen(path string) error {
	l, err := listenUnix(portNetwork(), path)
	if err != nil {
		return err
	}
	p.listener = l
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				p.s.log.Error("endpoint's socket is gone", "endpoint", p.ep.spec.ID, "err", err)
				return
			}
			if err := p.attach(conn); err != nil {
				p.s.log.Debug("NIC refused", "endpoint", p.ep.spec.ID, "err", err)
			}
		}
	})
	return nil
}

// attach starts a NIC's connection; close waits for its goroutines.
func (p *port) attach(conn net.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	widen(conn)
	n := &nic{conn: conn, queue: newFrameQueue()}
	if old := p.nic.Swap(n); old != nil {
		// Its goroutines see the end and leave.
		_ = old.conn.Close()
	}
	p.wg.Go(func() { p.run(n) })
	return nil
}

// run moves frames until the connection ends.
func (p *port) run(n *nic) {
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		n.queue.drain(n.conn, done)
		// The reader sees it.
		_ = n.conn.Close()
	})
	p.s.announce(p.ep)
	err := p.read(n.conn)
	_ = n.conn.Close()
	close(done)
	writer.Wait()
	p.s.log.Debug("NIC detached", "endpoint", p.ep.spec.ID, "err", err)
	if p.nic.CompareAndSwap(n, nil) {
		// The guest is gone, and its connections with it.
		p.ep.conns.abort()
		p.ep.flows.abort()
		p.s.gateway.abort(p.ep.ip)
	}
}

// send queues a frame, which the port owns from here on, for the NIC.
func (p *port) send(frame []byte) bool {
	n := p.nic.Load()
	return n != nil && n.queue.push(frame)
}

// read takes frames from the NIC and forwards them. It returns when the
// connection ends or breaks the framing. On a socket of packets each read must
// have room for the largest, as one with nothing buffered has.
func (p *port) read(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, 128<<10)
	buf := make([]byte, prefixSize+maxFrame)
	for {
		if _, err := io.ReadFull(r, buf[:prefixSize]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(buf)
		if n > maxFrame {
			p.s.log.Warn("NIC detached: frame too long", "endpoint", p.ep.spec.ID, "size", n)
			return fmt.Errorf("frame of %d bytes, at most %d are allowed", n, maxFrame)
		}
		if _, err := io.ReadFull(r, buf[prefixSize:prefixSize+n]); err != nil {
			return err
		}
		p.s.forward(p.ep, buf[:prefixSize+n])
	}
}

// connected says whether a NIC is attached.
func (p *port) connected() bool { return p.nic.Load() != nil }

// close ends the port and waits for its goroutines.
func (p *port) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if n := p.nic.Load(); n != nil {
		_ = n.conn.Close()
	}
	if p.listener != nil {
		_ = p.listener.Close()
		// Go removes the socket's file with the listener; on Windows it may stay.
		_ = os.Remove(p.listener.Addr().String())
	}
	p.wg.Wait()
}
