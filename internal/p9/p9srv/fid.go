// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"sync"
	"sync/atomic"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// fid is what a client's number refers to: a node, an open file, an extended
// attribute or a conversation of authentication. The table holds one
// reference, each request that uses the fid another; the last to go closes
// what the fid holds.
type fid struct {
	num  uint32
	uid  uint32
	refs atomic.Int32

	lockMu sync.Mutex
	// locks is the table of the file that is open, once a lock was asked for;
	// unlockable says that the fid is gone. Both are guarded by lockMu.
	locks      *lockTable
	unlockable bool

	mu sync.Mutex
	// node and file are guarded by mu; they are set once, but that Tlcreate
	// replaces the node, keeping the old one in dir until the fid goes.
	node, dir Node
	file      File
	flags     linux.OpenFlags
	// busy says that an open is under way. Guarded by mu.
	busy  bool
	xattr *xattr
	auth  *auth
}

// state returns what the fid refers to now.
func (f *fid) state() (Node, File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.node, f.file
}

// beginOpen claims the right to open the fid, which only a fid that refers to
// a file and is not open gives.
func (f *fid) beginOpen() (Node, linux.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.node == nil || f.xattr != nil {
		return nil, linux.EBADF
	}
	if f.busy || f.file != nil {
		return nil, linux.EBUSY
	}
	f.busy = true
	return f.node, 0
}

// endOpen ends what beginOpen began. file is nil if it did not come to be;
// node is not nil if the fid now refers to another node.
func (f *fid) endOpen(node Node, file File, flags linux.OpenFlags) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
	if file == nil {
		return
	}
	f.file, f.flags = file, flags
	if node != nil {
		f.dir, f.node = f.node, node
	}
}

// put gives up a reference.
func (f *fid) put() linux.Errno {
	if f.refs.Add(-1) > 0 {
		return 0
	}
	var e linux.Errno
	if f.file != nil {
		e = f.file.Close()
	}
	for _, n := range [...]Node{f.node, f.dir} {
		if n != nil {
			n.Release()
		}
	}
	return e
}

// fidTable maps a client's numbers to fids. Linux hands numbers out densely
// from zero, so small ones index an array.
type fidTable struct {
	max int

	mu     sync.Mutex
	dense  []*fid
	sparse map[uint32]*fid
	n      int
}

// denseLimit is the first number that is kept in the map.
const denseLimit = 1 << 20

// get returns a referenced fid, nil if the number is not in use.
func (t *fidTable) get(num uint32) *fid {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(num)
	if f != nil {
		f.refs.Add(1)
	}
	return f
}

func (t *fidTable) at(num uint32) *fid {
	if num < uint32(len(t.dense)) {
		return t.dense[num]
	}
	return t.sparse[num]
}

// add enters f under its number, which must be free. The table takes over
// the caller's reference only on success.
func (t *fidTable) add(f *fid) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.roomLocked(f.num); e != 0 {
		return e
	}
	t.n++
	if !t.growFor(f.num) {
		if t.sparse == nil {
			t.sparse = make(map[uint32]*fid)
		}
		t.sparse[f.num] = f
		return 0
	}
	t.dense[f.num] = f
	return 0
}

// room says whether add would enter a fid under num: to be asked before
// something is done that cannot be undone.
func (t *fidTable) room(num uint32) linux.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roomLocked(num)
}

func (t *fidTable) roomLocked(num uint32) linux.Errno {
	switch {
	case num == p9.NoFID || t.at(num) != nil:
		return linux.EINVAL
	case t.n >= t.max:
		return linux.EMFILE
	}
	return 0
}

// growFor makes the array reach num if that is worth its memory: numbers far
// beyond what is in use go to the map.
func (t *fidTable) growFor(num uint32) bool {
	size := uint32(len(t.dense))
	if num < size {
		return true
	}
	if num >= denseLimit || num > 2*uint32(t.n)+64 {
		return false
	}
	grown := make([]*fid, max(64, 2*size, num+1))
	copy(grown, t.dense)
	for n, f := range t.sparse {
		if n < uint32(len(grown)) {
			grown[n] = f
			delete(t.sparse, n)
		}
	}
	t.dense = grown
	return true
}

// remove takes a fid out of the table and hands its reference to the caller.
func (t *fidTable) remove(num uint32) *fid {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(num)
	if f == nil {
		return nil
	}
	t.n--
	if num < uint32(len(t.dense)) {
		t.dense[num] = nil
	} else {
		delete(t.sparse, num)
	}
	return f
}

// drain empties the table and returns what was in it.
func (t *fidTable) drain() []*fid {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*fid, 0, t.n)
	for _, f := range t.dense {
		if f != nil {
			all = append(all, f)
		}
	}
	for _, f := range t.sparse {
		all = append(all, f)
	}
	t.dense, t.sparse, t.n = nil, nil, 0
	return all
}
