// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"math"
	"slices"
	"strings"
	"sync"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// maxLocksPerFile bounds the ranges that are held of one file.
const maxLocksPerFile = 8 << 10

// Locks is a table of byte-range locks with the rules of POSIX: an owner's
// locks never stand in its own way, and a new one replaces what it overlaps.
// Share one among all servers that may serve the same files.
type Locks struct {
	mu sync.Mutex
	// files is guarded by mu.
	files map[FileID][]held
}

// owner is a process in a guest, or a file that one has open. The client's own
// name for itself is kept to be told, not to be trusted: what tells machines
// apart is the connection.
type owner struct {
	conn *conn
	proc uint32
	// file is the open file that owns the lock, nil for a process.
	file *fid
	// flock says that the lock is flock(2)'s, which stands in the way of its
	// like alone.
	flock bool
}

// lockOwner tells whose a lock is that a client asks for through f.
func (c *conn) lockOwner(f *fid, proc uint32, client string) owner {
	switch {
	case strings.HasSuffix(client, p9.LockClientFlock):
		return owner{conn: c, file: f, flock: true}
	case strings.HasSuffix(client, p9.LockClientOFD):
		return owner{conn: c, file: f}
	}
	return owner{conn: c, proc: proc}
}

// held is a locked range, both ends included.
type held struct {
	owner
	fid    *fid
	client string
	// told is the process number that the client gave.
	told       uint32
	write      bool
	start, end uint64
}

func (h *held) overlaps(start, end uint64) bool { return h.start <= end && start <= h.end }

func (h *held) conflicts(o owner, write bool, start, end uint64) bool {
	return h.flock == o.flock && h.owner != o && (h.write || write) && h.overlaps(start, end)
}

// lastByte turns a start and length into the last byte of the range.
func lastByte(start, length uint64) (uint64, linux.Errno) {
	switch {
	case start > math.MaxInt64:
		return 0, linux.EINVAL
	case length == 0 || length > math.MaxInt64-start:
		return math.MaxUint64, 0
	}
	return start + length - 1, 0
}

// lock answers a Tlock. It never waits: a client that wants to asks again.
func (c *conn) lock(m *p9.Tlock) (p9.Message, linux.Errno) {
	f, _, _, e := c.open1(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	end, e := lastByte(m.Start, m.Length)
	if e != 0 {
		return nil, e
	}
	h := held{
		owner: c.lockOwner(f, m.ProcID, m.ClientID), fid: f, client: m.ClientID, told: m.ProcID,
		write: m.LType == p9.LockWrite, start: m.Start, end: end,
	}
	switch m.LType {
	case p9.LockUnlock:
		c.locks.clear(f.lockFile(), &h)
		return &p9.Rlock{Status: p9.LockSuccess}, 0
	case p9.LockRead, p9.LockWrite:
		return &p9.Rlock{Status: c.locks.set(f.lockFile(), &h)}, 0
	}
	return nil, linux.EINVAL
}

// lockFile returns the file that locks through f are of: the same for as long
// as the fid lasts.
func (f *fid) lockFile() FileID {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.locked {
		f.locked, f.lockID = true, f.node.FileID()
	}
	return f.lockID
}

// getlock tells of a lock in the way. An unpatched Linux asks with LockUnlock,
// whatever it was asked itself, so that means a write lock here.
func (c *conn) getlock(m *p9.Tgetlock) (p9.Message, linux.Errno) {
	f, node, e := c.node(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	end, e := lastByte(m.Start, m.Length)
	if e != 0 {
		return nil, e
	}
	r := &p9.Rgetlock{Lock: m.Lock}
	r.Lock.Type = p9.LockUnlock
	write := m.Lock.Type != p9.LockRead
	if h, ok := c.locks.find(node.FileID(), c.lockOwner(f, m.ProcID, m.ClientID), write, m.Start, end); ok {
		r.Lock = h.lock()
	}
	return r, 0
}

// lock describes h as Rgetlock does.
func (h *held) lock() p9.Lock {
	l := p9.Lock{Type: p9.LockRead, Start: h.start, ProcID: h.told, ClientID: h.client}
	if h.write {
		l.Type = p9.LockWrite
	}
	if h.end != math.MaxUint64 {
		l.Length = h.end - h.start + 1
	}
	return l
}

// set locks a range unless another owner stands in the way.
func (l *Locks) set(id FileID, h *held) uint8 {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.files[id]
	for i := range list {
		if list[i].conflicts(h.owner, h.write, h.start, h.end) {
			return p9.LockBlocked
		}
	}
	if len(list) >= maxLocksPerFile {
		return p9.LockError
	}
	if l.files == nil {
		l.files = make(map[FileID][]held)
	}
	l.files[id] = merge(append(cut(list, h), *h))
	return p9.LockSuccess
}

// clear unlocks a range.
func (l *Locks) clear(id FileID, h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storeLocked(id, cut(l.files[id], h))
}

func (l *Locks) storeLocked(id FileID, list []held) {
	if len(list) == 0 {
		delete(l.files, id)
		return
	}
	l.files[id] = list
}

func (l *Locks) find(id FileID, o owner, write bool, start, end uint64) (held, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.files[id] {
		if h.conflicts(o, write, start, end) {
			return h, true
		}
	}
	return held{}, false
}

// dropFID gives up what was locked through f.
func (l *Locks) dropFID(f *fid) {
	f.mu.Lock()
	locked, id := f.locked, f.lockID
	f.mu.Unlock()
	if !locked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := func(h held) bool { return h.fid == f }
	l.storeLocked(id, slices.DeleteFunc(l.files[id], gone))
}

// dropConn gives up what a connection holds.
func (l *Locks) dropConn(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, list := range l.files {
		gone := func(h held) bool { return h.conn == c }
		l.storeLocked(id, slices.DeleteFunc(list, gone))
	}
}

// cut takes h's range out of what its owner holds in list.
func cut(list []held, h *held) []held {
	mine := func(o held) bool { return o.owner == h.owner && o.overlaps(h.start, h.end) }
	if !slices.ContainsFunc(list, mine) {
		return list
	}
	var rest []held
	for _, old := range list {
		if !mine(old) {
			rest = append(rest, old)
			continue
		}
		if old.start < h.start {
			left := old
			left.end = h.start - 1
			rest = append(rest, left)
		}
		if old.end > h.end {
			right := old
			right.start = h.end + 1
			rest = append(rest, right)
		}
	}
	return rest
}

// merge joins the last range with its neighbors of the same kind, so that a
// process that locks byte after byte does not fill the table.
func merge(list []held) []held {
	h := list[len(list)-1]
	rest := list[:0]
	for _, o := range list[:len(list)-1] {
		same := o.owner == h.owner && o.fid == h.fid && o.write == h.write
		switch {
		case same && o.end != math.MaxUint64 && o.end+1 == h.start:
			h.start = o.start
		case same && h.end != math.MaxUint64 && h.end+1 == o.start:
			h.end = o.end
		default:
			rest = append(rest, o)
		}
	}
	return append(rest, h)
}
