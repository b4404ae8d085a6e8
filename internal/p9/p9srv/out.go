// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"io"
	"sync"

	"byre.dev/byre/internal/p9"
)

const (
	// maxPending bounds the replies that wait for the client to read.
	maxPending = 1 << 20
	// directSize is the size from which a reply is written from its own
	// buffer instead of being collected.
	directSize = 32 << 10
)

// output collects replies. Whoever finds nobody writing writes what there is;
// replies that are added meanwhile go with the writer's next turn. Tags live
// here as well, for a request must leave the table in the same moment as its
// reply enters the stream: that is what makes flush exact.
type output struct {
	w io.Writer

	mu   sync.Mutex
	room sync.Cond
	// pending, spare, writing, err and tags are guarded by mu.
	pending []byte
	spare   []byte
	writing bool
	err     error
	tags    map[uint16]*request
}

func newOutput(w io.Writer) *output {
	o := &output{w: w, tags: make(map[uint16]*request)}
	o.room.L = &o.mu
	return o
}

// reply adds the reply to a request that was never in the table of tags.
func (o *output) reply(tag uint16, m p9.Message) {
	o.mu.Lock()
	o.waitLocked()
	o.pending = p9.AppendFrame(o.pending, tag, m)
	o.mu.Unlock()
}

// bulk is a reply in a buffer of its own.
type bulk struct {
	// frame is the whole reply, or what comes before the stream.
	frame []byte
	// stream, if not nil, writes the rest of the reply.
	stream func(io.Writer) error
}

// direct says whether the reply is written from where it is instead of being
// collected.
func (b bulk) direct() bool { return b.stream != nil || len(b.frame) >= directSize }

// replyBulk is reply for a reply in a buffer, which the caller may use again.
func (o *output) replyBulk(b bulk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !b.direct() {
		o.waitLocked()
		o.pending = append(o.pending, b.frame...)
		return
	}
	for o.writing {
		o.room.Wait()
	}
	o.writeLocked(b, nil)
}

// waitLocked waits until there is room for another reply, writing itself if
// nobody does.
func (o *output) waitLocked() {
	for len(o.pending) >= maxPending && o.err == nil {
		if o.writing {
			o.room.Wait()
		} else {
			o.writeLocked(bulk{}, nil)
		}
	}
}

// finish adds the reply to r, takes r out of the table and answers those who
// wanted it flushed, in that order; then it sees to it that all is written.
// b, if it is one, is the reply instead of m.
func (o *output) finish(r *request, m p9.Message, b bulk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b.direct() {
		for o.writing {
			o.room.Wait()
		}
		o.writeLocked(b, r)
		return
	}
	o.waitLocked()
	if b.frame != nil {
		o.pending = append(o.pending, b.frame...)
	} else {
		o.pending = p9.AppendFrame(o.pending, r.tag, m)
	}
	o.forgetLocked(r)
	if !o.writing {
		o.writeLocked(bulk{}, nil)
	}
}

// forgetLocked takes r out of the table and answers its flushes. The caller
// has just put r's reply into the stream, or there will be none.
func (o *output) forgetLocked(r *request) {
	delete(o.tags, r.tag)
	for _, tag := range r.flushes {
		delete(o.tags, tag)
		o.pending = p9.AppendFrame(o.pending, tag, &p9.Rflush{})
	}
}

// flush writes what is pending unless somebody else is at it.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing {
		o.writeLocked(bulk{}, nil)
	}
}

// writeLocked writes what is pending, then direct, if there is one, which is
// the reply to r if that is not nil, then what has come up meanwhile until
// there is nothing left. mu is not held during the writes, so r must be
// forgotten before the first.
func (o *output) writeLocked(direct bulk, r *request) {
	o.writing = true
	for o.err == nil && (len(o.pending) > 0 || direct.frame != nil) {
		batch, last := o.pending, direct
		o.pending, o.spare, direct = o.spare[:0], nil, bulk{}
		if last.frame != nil && r != nil {
			o.forgetLocked(r)
		}
		if last.stream != nil {
			batch, last.frame = append(batch, last.frame...), nil
		}
		o.mu.Unlock()
		err := writeAll(o.w, batch, last.frame)
		if err == nil && last.stream != nil {
			err = last.stream(o.w)
		}
		o.mu.Lock()
		if cap(batch) <= 2*maxPending {
			o.spare = batch[:0]
		}
		o.err = err
	}
	if o.err != nil {
		o.pending = nil
	}
	o.writing = false
	o.room.Broadcast()
}

func writeAll(w io.Writer, bufs ...[]byte) error {
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
