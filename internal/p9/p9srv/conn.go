// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// errGone stands for a connection that can no longer be written to.
var errGone = errors.New("client does not take replies")

// conn is one connection being served.
type conn struct {
	srv   *Server
	rwc   io.ReadWriteCloser
	in    input
	out   *output
	fids  fidTable
	locks *Locks
	// msize is what was agreed to; it changes only while nothing runs.
	msize   uint32
	version bool

	// scratch holds a message of each type for requests that are answered
	// inline, so that they cost no memory.
	scratch [256]p9.Message
	quick   quickReplies

	work    chan *request
	workers sync.WaitGroup
	started int
	idle    atomic.Int32
	// running counts requests that are queued or at a worker.
	running sync.WaitGroup
	budget  budget
	xattrs  atomic.Int64
	// waiting counts Tlocks that are held back.
	waiting atomic.Int32

	panicked atomic.Pointer[error]
}

// quickReplies are the replies of the most frequent requests, and a Tread,
// reused from one inline request to the next.
type quickReplies struct {
	error   p9.Rlerror
	walk    p9.Rwalk
	getattr p9.Rgetattr
	lookup  p9.Rlookup
	read    p9.Tread
}

func newConn(s *Server, rwc io.ReadWriteCloser) *conn {
	c := &conn{
		srv:   s,
		rwc:   rwc,
		in:    input{r: rwc, buf: make([]byte, inSize)},
		out:   newOutput(rwc),
		fids:  fidTable{max: s.maxFIDs()},
		locks: s.Locks,
		msize: s.msize(),
		work:  make(chan *request, queueLength),
	}
	c.budget.init(max(8<<20, 4*int64(c.msize)))
	if c.locks == nil {
		c.locks = new(Locks)
	}
	return c
}

// serve reads and dispatches requests until the stream ends or is violated.
func (c *conn) serve() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicError(v)
		}
	}()
	for {
		if !c.in.whole() {
			c.out.flush()
		}
		if err := c.next(); err != nil {
			return errors.Join(err, c.panic())
		}
	}
}

// next reads one request and answers it or hands it on.
func (c *conn) next() error {
	size, typ, tag, err := c.in.header(c.msize)
	if err != nil {
		return err
	}
	if n := c.srv.Requests; n != nil {
		n.Add(1)
	}
	if typ == p9.TypeTwrite {
		return c.nextWrite(size, tag)
	}
	body, err := c.in.body(size)
	if err != nil {
		return err
	}
	if typ == p9.TypeTread && c.readNow(tag, body) {
		return c.gone()
	}
	if slow(typ) {
		return c.handOn(typ, tag, body)
	}
	m := c.scratch[typ]
	if m == nil {
		if m = newRequest(typ); m == nil {
			c.out.reply(tag, &p9.Rlerror{Ecode: linux.EOPNOTSUPP})
			return c.gone()
		}
		c.scratch[typ] = m
	}
	if err := p9.Decode(body, m); err != nil {
		return err
	}
	return c.inline(tag, m)
}

// newRequest returns an empty request of type t, nil if t is none.
func newRequest(t p9.Type) p9.Message {
	if t&1 != 0 || t == p9.TypeRlerror-1 {
		return nil
	}
	return p9.New(t)
}

// inline answers a quick request.
func (c *conn) inline(tag uint16, m p9.Message) error {
	switch m := m.(type) {
	case *p9.Tflush:
		return c.flush(tag, m)
	case *p9.Tversion:
		c.restart(tag, m)
		return c.gone()
	}
	if !c.version {
		return fmt.Errorf("%s before Tversion", m.Type())
	}
	if c.out.inUse(tag) {
		return fmt.Errorf("%s with tag %d, which is in use", m.Type(), tag)
	}
	if l, ok := m.(*p9.Tlock); ok {
		c.lock(tag, l)
	} else {
		c.out.reply(tag, c.quickly(m))
	}
	return c.gone()
}

// gone returns an error once replies can no longer be written.
func (c *conn) gone() error {
	if c.out.failed() {
		return errGone
	}
	return nil
}

// finish ends what the connection holds. The stream is closed by now.
func (c *conn) finish() {
	c.out.abandon()
	close(c.work)
	c.workers.Wait()
	c.unparkAll()
	c.running.Wait()
	c.reset()
}

// reset clunks all fids.
func (c *conn) reset() {
	for _, f := range c.fids.drain() {
		c.drop(f)
	}
}

// drop gives up a fid that was taken out of the table, its locks first.
func (c *conn) drop(f *fid) linux.Errno {
	c.locks.dropFID(f)
	if f.xattr != nil {
		c.xattrs.Add(-f.xattr.cost)
	}
	return f.put()
}

func panicError(v any) error {
	return fmt.Errorf("panic while serving: %v\n%s", v, debug.Stack())
}

func (c *conn) panic() error {
	if p := c.panicked.Load(); p != nil {
		return *p
	}
	return nil
}
