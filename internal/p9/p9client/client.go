// SPDX-License-Identifier: Apache-2.0

// Package p9client is a small 9P2000.L client for tests and benchmarks. It
// does what it is told, hostile requests included: names are not checked, and
// fids are forgotten by the server alone.
package p9client

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// ErrClosed is the error of requests on a connection that has ended.
var ErrClosed = errors.New("9P connection closed")

// Client is one session. Its methods may be called concurrently.
type Client struct {
	conn  io.ReadWriteCloser
	msize uint32
	done  chan struct{}

	wmu  sync.Mutex
	wbuf []byte

	mu sync.Mutex
	// calls, tag, fid, free and err are guarded by mu.
	calls map[uint16]*call
	tag   uint16
	fid   uint32
	free  []uint32
	err   error
}

type call struct {
	reply p9.Message
	done  chan error
}

// New begins a session with the largest msize that both sides take. The
// client owns conn from now on.
func New(conn io.ReadWriteCloser, msize uint32) (*Client, error) {
	c := &Client{
		conn: conn, msize: msize,
		done: make(chan struct{}), calls: make(map[uint16]*call),
	}
	// Close waits for the reader.
	go c.read()
	var r p9.Rversion
	if err := c.roundTrip(p9.NoTag, &p9.Tversion{Msize: msize, Version: p9.Version}, &r); err != nil {
		c.Close()
		return nil, fmt.Errorf("negotiate 9P version: %w", err)
	}
	if r.Version != p9.Version {
		c.Close()
		return nil, fmt.Errorf("negotiate 9P version: server speaks %q", r.Version)
	}
	c.msize = min(msize, r.Msize)
	return c, nil
}

// Msize returns the agreed frame size.
func (c *Client) Msize() uint32 { return c.msize }

// Close ends the session and waits for its goroutine.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// Call sends a request and waits for its reply. An Rlerror is returned as a
// [linux.Errno]. Byte slices in reply are its own.
func (c *Client) Call(req, reply p9.Message) error {
	p, err := c.Start(req, reply)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Pending is a request that was sent.
type Pending struct {
	c    *Client
	call *call
	// Tag is the request's tag, for Tflush.
	Tag uint16
}

// Start sends a request.
func (c *Client) Start(req, reply p9.Message) (*Pending, error) {
	k := &call{reply: reply, done: make(chan error, 1)}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	for c.tag == p9.NoTag || c.calls[c.tag] != nil {
		c.tag++
	}
	tag := c.tag
	c.tag++
	c.calls[tag] = k
	c.mu.Unlock()
	if err := c.send(tag, req); err != nil {
		return nil, err
	}
	return &Pending{c: c, call: k, Tag: tag}, nil
}

// Wait waits for the reply. A request whose flush was answered first returns
// EINTR.
func (p *Pending) Wait() error { return <-p.call.done }

// Flush gives up the request p and waits until that is settled.
func (c *Client) Flush(p *Pending) error {
	if err := c.Call(&p9.Tflush{OldTag: p.Tag}, &p9.Rflush{}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[p.Tag] == p.call {
		delete(c.calls, p.Tag)
		p.call.done <- linux.EINTR
	}
	return nil
}

func (c *Client) roundTrip(tag uint16, req, reply p9.Message) error {
	k := &call{reply: reply, done: make(chan error, 1)}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.calls[tag] = k
	c.mu.Unlock()
	if err := c.send(tag, req); err != nil {
		return err
	}
	return <-k.done
}

func (c *Client) send(tag uint16, req p9.Message) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = p9.AppendFrame(c.wbuf[:0], tag, req)
	_, err := c.conn.Write(c.wbuf)
	return err
}

// read gives replies to those who wait for them until the connection ends.
func (c *Client) read() {
	defer close(c.done)
	err := c.readAll()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	for _, k := range c.calls {
		k.done <- c.err
	}
	c.calls = nil
}

func (c *Client) readAll() error {
	header := make([]byte, p9.HeaderSize)
	for {
		if _, err := io.ReadFull(c.conn, header); err != nil {
			return err
		}
		size, typ, tag := p9.Header(header)
		if size < p9.HeaderSize || size > c.msize {
			return fmt.Errorf("%s frame of %d bytes", typ, size)
		}
		body := make([]byte, size-p9.HeaderSize)
		if _, err := io.ReadFull(c.conn, body); err != nil {
			return err
		}
		c.mu.Lock()
		k := c.calls[tag]
		delete(c.calls, tag)
		c.mu.Unlock()
		if k == nil {
			return fmt.Errorf("%s for tag %d, which waits for nothing", typ, tag)
		}
		k.done <- k.decode(typ, body)
	}
}

func (k *call) decode(typ p9.Type, body []byte) error {
	if typ == p9.TypeRlerror {
		var r p9.Rlerror
		if err := p9.Decode(body, &r); err != nil {
			return err
		}
		return r.Ecode
	}
	if typ != k.reply.Type() {
		return fmt.Errorf("%s in answer where %s was due", typ, k.reply.Type())
	}
	return p9.Decode(body, k.reply)
}
