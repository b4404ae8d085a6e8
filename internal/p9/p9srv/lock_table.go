// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"slices"
	"sync"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// maxLocksPerFile bounds the ranges that are held of one file.
const maxLocksPerFile = 8 << 10

// Locks is a table of byte-range locks with the rules of POSIX: an owner's
// locks never stand in its own way, and a new one replaces what it overlaps.
// Share one among all servers of a process that may serve the same files;
// processes meet in the files' [HostLock].
//
// Lock order: fid.lockMu, then Locks.mu, then lockTable.mu.
type Locks struct {
	mu sync.Mutex
	// files is guarded by mu.
	files map[FileID]*lockTable
}

// lockTable holds what is locked of one file.
type lockTable struct {
	id FileID
	// users counts the fids that locks of the file were asked for through. It
	// is guarded by Locks.mu.
	users int

	mu sync.Mutex
	// host, list and waiting are guarded by mu; host may be nil.
	host    HostLock
	list    []held
	waiting []*waiter
}

// enter returns the table of f's file, which f uses from now on until it is
// clunked. The caller holds f.lockMu.
func (l *Locks) enter(f *fid, file File) (*lockTable, linux.Errno) {
	if f.unlockable {
		return nil, linux.EBADF
	}
	if f.locks != nil {
		return f.locks, 0
	}
	id, open := f.node.FileID, func() HostLock { return nil }
	if k, ok := file.(Lockable); ok {
		id, open = k.FileID, k.HostLock
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.files[id()]
	if t == nil {
		t = &lockTable{id: id(), host: open()}
		if l.files == nil {
			l.files = make(map[FileID]*lockTable)
		}
		l.files[t.id] = t
	}
	t.users++
	f.locks = t
	return t, 0
}

// dropFID gives up what was locked, and is waited for, through f.
func (l *Locks) dropFID(f *fid) {
	f.lockMu.Lock()
	defer f.lockMu.Unlock()
	f.unlockable = true
	t := f.locks
	if t == nil {
		return
	}
	f.locks = nil
	t.dropFID(f)
	l.mu.Lock()
	defer l.mu.Unlock()
	t.users--
	if t.users > 0 {
		return
	}
	delete(l.files, t.id)
	if t.host != nil {
		t.host.Close()
	}
}

// set locks a range unless somebody stands in the way.
func (t *lockTable) set(h *held) uint8 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.setLocked(h)
}

func (t *lockTable) setLocked(h *held) uint8 {
	for i := range t.list {
		if t.list[i].conflicts(h.owner, h.write, h.start, h.end) {
			return p9.LockBlocked
		}
	}
	if len(t.list) >= maxLocksPerFile {
		return p9.LockError
	}
	if t.host != nil && !t.host.Set(h.space(), h.write, h.start, h.end) {
		t.syncLocked(h.space(), h.start, h.end)
		return p9.LockBlocked
	}
	t.list = merge(append(cut(t.list, h), *h))
	return p9.LockSuccess
}

// clear unlocks a range and lets in who waited for it.
func (t *lockTable) clear(h *held) {
	t.mu.Lock()
	t.list = cut(t.list, h)
	t.syncLocked(h.space(), h.start, h.end)
	in := t.admitLocked()
	t.mu.Unlock()
	answer(in, p9.LockSuccess)
}

// syncLocked makes the host's lock of a range what those who are left have
// locked of it.
func (t *lockTable) syncLocked(space LockSpace, start, end uint64) {
	if t.host == nil {
		return
	}
	for _, p := range union(t.list, space, start, end) {
		if p.locked {
			t.host.Set(space, p.write, p.start, p.end)
		} else {
			t.host.Clear(space, p.start, p.end)
		}
	}
}

func (t *lockTable) find(o owner, write bool, start, end uint64) (p9.Lock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.list {
		if t.list[i].conflicts(o, write, start, end) {
			return t.list[i].lock(), true
		}
	}
	if t.host == nil || o.flock {
		return p9.Lock{}, false
	}
	return t.host.Find(write, start, end)
}

// dropFID takes out what came through f. Those who wait through f are told
// that it is gone.
func (t *lockTable) dropFID(f *fid) {
	t.mu.Lock()
	var gone []held
	t.list = slices.DeleteFunc(t.list, func(h held) bool {
		if h.fid == f {
			gone = append(gone, h)
		}
		return h.fid == f
	})
	for _, h := range gone {
		t.syncLocked(h.space(), h.start, h.end)
	}
	var out []*waiter
	t.waiting = slices.DeleteFunc(t.waiting, func(w *waiter) bool {
		if w.fid == f {
			out = append(out, w)
		}
		return w.fid == f
	})
	in := t.admitLocked()
	t.mu.Unlock()
	answer(in, p9.LockSuccess)
	answer(out, p9.LockError)
}
