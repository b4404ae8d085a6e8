// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"sync"

	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// watchBudget bounds the watches of the host that one machine takes: a user's
// are for all machines and for the user's own programs. The zero value is a
// machine's part of what the host allows; see limitTo.
type watchBudget struct {
	mu sync.Mutex
	// limit is the machine's part, read once known is set; 0 is no bound, less
	// is none at all.
	// used counts what is taken. All are guarded by mu.
	limit, used int
	known       bool
}

// leastWatches is a machine's part where the host allows few: it takes all of
// them rather than less.
const leastWatches = 2048

// watchesPart is how many of a user's watches a machine takes; 0 is no bound.
func watchesPart(host int) int { return max(host/4, min(host, leastWatches)) }

// limitTo has the machine take n watches at the most, none if n is negative; 0
// is its part.
func (b *watchBudget) limitTo(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit, b.known = n, n != 0
}

func (b *watchBudget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.known {
		b.limit, b.known = watchesPart(watch.Limit()), true
	}
	if b.limit != 0 && b.used >= b.limit {
		return false
	}
	b.used++
	return true
}

func (b *watchBudget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// errNoWatches says that the machine has its part.
var errNoWatches = errors.New("the machine has as many of the host's watches as it may take")

// hostWatch makes a replay.Watcher of a watcher.
type hostWatch struct {
	*watch.Watcher
	single bool
	budget *watchBudget

	mu sync.Mutex
	// taken counts what is to be given back. Guarded by mu.
	taken int
}

// Add watches a directory. The root of a single file's share is none of the
// host's directories, and stands for the one that the file is in.
func (h *hostWatch) Add(id watch.ID, path string, file p9srv.FileID) error {
	if !h.budget.take() {
		return errNoWatches
	}
	want := watch.Identity(file)
	if h.single {
		want = watch.Identity{}
	}
	if err := h.Watcher.Add(id, path, want); err != nil {
		h.budget.give(1)
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken++
	return nil
}

// Remove ends the watching of a directory that Add has begun.
func (h *hostWatch) Remove(id watch.ID) {
	h.Watcher.Remove(id)
	h.give(1)
}

// Close ends all watching.
func (h *hostWatch) Close() error {
	err := h.Watcher.Close()
	h.mu.Lock()
	n := h.taken
	h.mu.Unlock()
	h.give(n)
	return err
}

func (h *hostWatch) give(n int) {
	h.mu.Lock()
	n = min(n, h.taken)
	h.taken -= n
	h.mu.Unlock()
	h.budget.give(n)
}
