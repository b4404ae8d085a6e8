// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"math"
	"strings"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// LockSpace tells apart locks that never stand in each other's way.
type LockSpace uint8

// The spaces of locks that Linux has.
const (
	// LockBytes are the byte ranges of fcntl(2).
	LockBytes LockSpace = iota
	// LockWhole are the whole files of flock(2).
	LockWhole
)

// HostLock is a file's place among the locks that other processes of the host
// see: other servers of the same file, and the host's own programs where they
// ask. It holds what this process has locked in sum, whichever guest it is
// for. Ranges include both ends; the end math.MaxUint64 is the file's, however
// far it grows. The methods do not wait and are not called concurrently.
type HostLock interface {
	// Set locks a range in place of what this process had locked of it; false
	// if another process stands in the way. The range is then in any state.
	Set(space LockSpace, write bool, start, end uint64) bool
	// Clear unlocks a range.
	Clear(space LockSpace, start, end uint64)
	// Find tells of another process's byte range in the way.
	Find(write bool, start, end uint64) (p9.Lock, bool)
	// Close gives up everything.
	Close()
}

// Lockable is a [File] with an identity of its own, which locks follow
// whatever happens to its name.
type Lockable interface {
	// FileID is Node's, for the file that is open. Quick.
	FileID() FileID
	// HostLock returns the file's place among the host's locks, nil if it has
	// none. Quick.
	HostLock() HostLock
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

func (o owner) space() LockSpace {
	if o.flock {
		return LockWhole
	}
	return LockBytes
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
	case start >= math.MaxInt64:
		return 0, linux.EINVAL
	case length == 0 || length > math.MaxInt64-start:
		return math.MaxUint64, 0
	}
	return start + length - 1, 0
}

// lock answers a Tlock, at once or, if the client is ready to wait and
// something is in the way, a little later.
func (c *conn) lock(tag uint16, m *p9.Tlock) {
	status, later, e := c.tryLock(tag, m)
	switch {
	case later:
	case e != 0:
		c.out.reply(tag, &p9.Rlerror{Ecode: e})
	default:
		c.out.reply(tag, &p9.Rlock{Status: status})
	}
}

// tryLock returns the answer to a Tlock; later says that it will come by
// itself.
func (c *conn) tryLock(tag uint16, m *p9.Tlock) (status uint8, later bool, e linux.Errno) {
	f, file, _, e := c.open1(m.FID)
	if e != 0 {
		return 0, false, e
	}
	defer f.put()
	end, e := lastByte(m.Start, m.Length)
	if e != 0 {
		return 0, false, e
	}
	if m.LType > p9.LockUnlock {
		return 0, false, linux.EINVAL
	}
	h := held{
		owner: c.lockOwner(f, m.ProcID, m.ClientID), fid: f, client: m.ClientID, told: m.ProcID,
		write: m.LType == p9.LockWrite, start: m.Start, end: end,
	}
	f.lockMu.Lock()
	defer f.lockMu.Unlock()
	t, e := c.locks.enter(f, file)
	if e != 0 {
		return 0, false, e
	}
	if m.LType == p9.LockUnlock {
		t.clear(&h)
		return p9.LockSuccess, false, 0
	}
	if m.Flags&p9.LockFlagBlock == 0 {
		return t.set(&h), false, 0
	}
	return c.setOrPark(t, tag, &h)
}

// getlock tells of a lock in the way. An unpatched Linux asks with LockUnlock,
// whatever it was asked itself, so that means a write lock here.
func (c *conn) getlock(m *p9.Tgetlock) (p9.Message, linux.Errno) {
	f, file, _, e := c.open1(m.FID)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	end, e := lastByte(m.Start, m.Length)
	if e != 0 {
		return nil, e
	}
	f.lockMu.Lock()
	defer f.lockMu.Unlock()
	t, e := c.locks.enter(f, file)
	if e != 0 {
		return nil, e
	}
	r := &p9.Rgetlock{Lock: m.Lock}
	r.Lock.Type = p9.LockUnlock
	write := m.Lock.Type != p9.LockRead
	if l, ok := t.find(c.lockOwner(f, m.ProcID, m.ClientID), write, m.Start, end); ok {
		r.Lock = l
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
