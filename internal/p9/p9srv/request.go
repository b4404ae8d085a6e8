// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"fmt"
	"sync"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// queueLength bounds the requests that wait for a worker.
const queueLength = 256

// request is one that may wait: it has a place in the table of tags until it
// is answered.
type request struct {
	tag uint16
	msg p9.Message
	// payload is the pooled frame that a Twrite's data lies in.
	payload *[]byte
	// started, canceled and flushes are guarded by out.mu. flushes holds the
	// tags of the Tflushes that wait for this request, in order.
	started, canceled bool
	flushes           []uint16
	// waits is not nil for a Tlock that is held back.
	waits *waiter
}

// slow says whether requests of type t go to a worker.
func slow(t p9.Type) bool {
	switch t {
	case p9.TypeTlopen, p9.TypeTlcreate, p9.TypeTsymlink, p9.TypeTmknod,
		p9.TypeTrename, p9.TypeTsetattr, p9.TypeTreaddir, p9.TypeTfsync,
		p9.TypeTlink, p9.TypeTmkdir, p9.TypeTrenameat, p9.TypeTunlinkat,
		p9.TypeTopenat, p9.TypeTcreateat, p9.TypeTrenameat2, p9.TypeTallocate,
		p9.TypeTtmpfile, p9.TypeTopendir, p9.TypeTmapped, p9.TypeTread, p9.TypeTwrite, p9.TypeTremove, p9.TypeTstatfs:
		return true
	}
	return false
}

// handOn decodes a request that may wait and queues it.
func (c *conn) handOn(typ p9.Type, tag uint16, body []byte) error {
	m := p9.New(typ)
	if err := p9.Decode(body, m); err != nil {
		return err
	}
	return c.queue(&request{tag: tag, msg: m})
}

// nextWrite reads a Twrite into a buffer of its own and queues it.
func (c *conn) nextWrite(size uint32, tag uint16) error {
	buf := c.buffer(int(size) - p9.HeaderSize)
	if err := c.in.copyBody(*buf); err != nil {
		return err
	}
	m := new(p9.Twrite)
	if err := p9.Decode(*buf, m); err != nil {
		return err
	}
	return c.queue(&request{tag: tag, msg: m, payload: buf})
}

// queue enters r into the table of tags and hands it to a worker.
func (c *conn) queue(r *request) error {
	if !c.version {
		return fmt.Errorf("%s before Tversion", r.msg.Type())
	}
	if !c.out.begin(r) {
		return fmt.Errorf("%s with tag %d, which is in use", r.msg.Type(), r.tag)
	}
	c.budget.take(r.cost())
	c.running.Add(1)
	if c.idle.Load() <= int32(len(c.work)) && c.started < c.srv.workers() {
		c.started++
		c.workers.Go(c.worker)
	}
	c.work <- r
	return c.gone()
}

// cost is what a queued request holds in memory.
func (r *request) cost() int64 {
	if r.payload == nil {
		return 512
	}
	return int64(len(*r.payload)) + 512
}

// worker answers queued requests until the connection ends.
func (c *conn) worker() {
	c.idle.Add(1)
	for r := range c.work {
		c.idle.Add(-1)
		c.answer(r)
		c.idle.Add(1)
	}
}

// answer runs one request and sends its reply. A panic closes the connection.
func (c *conn) answer(r *request) {
	defer c.running.Done()
	defer c.budget.give(r.cost())
	defer c.recycle(r.payload)
	defer func() {
		if v := recover(); v != nil {
			err := panicError(v)
			c.panicked.CompareAndSwap(nil, &err)
			c.rwc.Close()
		}
	}()
	if !c.out.start(r) {
		return
	}
	if m, ok := r.msg.(*p9.Tread); ok {
		c.read(r, m)
		return
	}
	c.out.finish(r, c.slowly(r.msg), bulk{})
}

// flush answers a Tflush: at once if the old request is answered, unknown or
// still queued, else right after the old request's reply.
func (c *conn) flush(tag uint16, m *p9.Tflush) error {
	c.unpark(m.OldTag)
	o := c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, used := o.tags[tag]; used {
		return fmt.Errorf("Tflush with tag %d, which is in use", tag)
	}
	o.waitLocked()
	r := o.tags[m.OldTag]
	if r != nil && !r.started {
		r.canceled = true
		o.forgetLocked(r)
		r = nil
	}
	if r == nil || r.msg == nil {
		o.pending = p9.AppendFrame(o.pending, tag, &p9.Rflush{})
		return nil
	}
	r.flushes = append(r.flushes, tag)
	o.tags[tag] = &request{tag: tag, started: true}
	return nil
}

// restart begins a session: what runs is finished, all fids are clunked.
func (c *conn) restart(tag uint16, m *p9.Tversion) {
	c.unparkAll()
	c.running.Wait()
	c.reset()
	r := p9.Rversion{Msize: min(m.Msize, c.srv.msize()), Version: p9.Version}
	if m.Version != p9.Version {
		c.version = false
		r.Version = p9.VersionUnknown
		c.out.reply(tag, &r)
		return
	}
	if m.Msize < p9.MinMsize {
		c.version = false
		c.out.reply(tag, &p9.Rlerror{Ecode: linux.EINVAL})
		return
	}
	c.msize, c.version = r.Msize, true
	c.out.reply(tag, &r)
}

// begin enters r into the table; false if its tag is in use.
func (o *output) begin(r *request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, used := o.tags[r.tag]; used {
		return false
	}
	o.tags[r.tag] = r
	return true
}

// start claims r for a worker; false if it was flushed before.
func (o *output) start(r *request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.started = true
	return !r.canceled
}

func (o *output) inUse(tag uint16) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, used := o.tags[tag]
	return used
}

func (o *output) failed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err != nil
}

// abandon makes every further write fail without being tried.
func (o *output) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = errGone
	}
	o.room.Broadcast()
}

// budget bounds the memory that queued requests hold.
type budget struct {
	mu   sync.Mutex
	more sync.Cond
	left int64
}

func (b *budget) init(n int64) { b.left, b.more.L = n, &b.mu }

// take waits until n can be had.
func (b *budget) take(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.left < n {
		b.more.Wait()
	}
	b.left -= n
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	b.more.Signal()
}
