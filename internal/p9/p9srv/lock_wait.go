// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"slices"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

const (
	// lockWait bounds how long the answer to a Tlock may be held back. Linux's
	// client cannot be interrupted meanwhile, short of being killed, and once
	// it is told that it must wait it sleeps for a second or more. What it
	// nearly always waits for is an unlock that is on its way: the client lets
	// the next of its own processes ask before it has sent it.
	lockWait = 300 * time.Millisecond
	// lockPoll is how often locks of other processes are looked at, which say
	// nothing when they go.
	lockPoll = 10 * time.Millisecond
	// maxWaiting bounds the Tlocks of one connection that are held back.
	maxWaiting = 256
)

// waiter is a Tlock that is held back. It takes no worker: whoever unlocks
// answers it, or its timer.
type waiter struct {
	held
	req   *request
	table *lockTable
	until time.Time
	timer *time.Timer
}

// setOrPark locks a range, or holds the request back until that is possible.
func (c *conn) setOrPark(t *lockTable, tag uint16, h *held) (status uint8, later bool, e linux.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	status = t.setLocked(h)
	if status != p9.LockBlocked || c.waiting.Load() >= maxWaiting {
		return status, false, 0
	}
	w := &waiter{held: *h, table: t, until: time.Now().Add(lockWait)}
	w.req = &request{tag: tag, msg: new(p9.Tlock), started: true, waits: w}
	c.out.begin(w.req)
	c.waiting.Add(1)
	c.running.Add(1)
	h.fid.refs.Add(1)
	t.waiting = append(t.waiting, w)
	w.timer = time.AfterFunc(t.pause(), w.tick)
	return 0, true, 0
}

// pause is how long a waiter sleeps that nobody wakes.
func (t *lockTable) pause() time.Duration {
	if t.host == nil {
		return lockWait
	}
	return lockPoll
}

// tick tries again, or tells the client to ask again later.
func (w *waiter) tick() {
	t := w.table
	t.mu.Lock()
	if !slices.Contains(t.waiting, w) {
		t.mu.Unlock()
		return
	}
	status := t.setLocked(&w.held)
	if status == p9.LockBlocked && time.Now().Before(w.until) {
		w.timer.Reset(t.pause())
		t.mu.Unlock()
		return
	}
	t.removeLocked(w)
	t.mu.Unlock()
	answer([]*waiter{w}, status)
}

func (t *lockTable) removeLocked(w *waiter) bool {
	i := slices.Index(t.waiting, w)
	if i < 0 {
		return false
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	return true
}

// admitLocked gives locks to those who wait and can have them now, the longest
// waiting first. The caller answers them.
func (t *lockTable) admitLocked() []*waiter {
	var in []*waiter
	t.waiting = slices.DeleteFunc(t.waiting, func(w *waiter) bool {
		ok := t.setLocked(&w.held) == p9.LockSuccess
		if ok {
			in = append(in, w)
		}
		return ok
	})
	return in
}

// answer tells waiters, which wait no more, what became of them.
func answer(list []*waiter, status uint8) {
	for _, w := range list {
		w.conn.out.finish(w.req, &p9.Rlock{Status: status}, bulk{})
		w.done()
	}
}

// done ends a waiter that was taken off its list.
func (w *waiter) done() {
	w.timer.Stop()
	w.fid.put()
	w.conn.waiting.Add(-1)
	w.conn.running.Done()
}

// giveUp ends the wait of request r without an answer; false if it waits no
// more, but has been or is being answered.
func (w *waiter) giveUp() bool {
	t := w.table
	t.mu.Lock()
	ok := t.removeLocked(w)
	t.mu.Unlock()
	if ok {
		w.done()
	}
	return ok
}

// unpark ends the wait of the Tlock with a tag, if there is one: it has taken
// no effect and never will.
func (c *conn) unpark(tag uint16) {
	o := c.out
	o.mu.Lock()
	r := o.tags[tag]
	o.mu.Unlock()
	if r == nil || r.waits == nil || !r.waits.giveUp() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forgetLocked(r)
}

// unparkAll ends all waits of the connection.
func (c *conn) unparkAll() {
	c.out.mu.Lock()
	var tags []uint16
	for tag, r := range c.out.tags {
		if r.waits != nil {
			tags = append(tags, tag)
		}
	}
	c.out.mu.Unlock()
	for _, tag := range tags {
		c.unpark(tag)
	}
}
