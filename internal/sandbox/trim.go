// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"time"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/guestapi"
)

const (
	// trimWorth is how much of its image a disk must hold when it is plugged in
	// to be trimmed: a machine that was killed has deleted what it had not yet
	// discarded.
	trimWorth = 64 << 20
	// trimWait bounds a trim, which takes as long as the disk has groups.
	trimWait = 5 * time.Minute
	// muchCache is how much page cache makes a container one that reads files: it
	// keeps its cache.
	muchCache = 32 << 20
	// settleWait bounds Settle's calls.
	settleWait = 20 * time.Second
)

// noteUsed remembers a writable image that has been written to before. One
// whose allocation the host does not tell is left alone.
func (t *diskTable) noteUsed(path string) {
	if n, err := disk.Allocated(path); err != nil || n < trimWorth {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = true
}

// takeUsed tells, once, that there was such an image.
func (t *diskTable) takeUsed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	used := t.used
	t.used = false
	return used
}

// Settle has the guest give back what the start of a container has read and
// freed, and is called once that is over. It is an offer: where it fails, the
// machine stays as large as it is.
func (s *Sandbox) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	m, err := s.Memory(ctx)
	if err == nil && m.GetAvailable() < m.GetFree()+muchCache {
		_, err = s.link.guest.Trim(ctx, &guestapi.TrimRequest{Memory: true})
	}
	if err != nil {
		s.log.Debug("memory not given back after the start", "err", s.Explain(err))
	}
}

// trim has the guest tell which blocks of a disk that was used before hold
// nothing. It is called from time to time, behind the start that everybody waits
// for; what is deleted from then on is discarded as it goes.
func (s *Sandbox) trim(ctx context.Context) {
	if !s.disks.takeUsed() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, trimWait)
	defer cancel()
	r, err := s.link.guest.Trim(ctx, &guestapi.TrimRequest{Disks: true})
	if err != nil {
		s.log.Debug("disks not trimmed", "err", s.Explain(err))
		return
	}
	s.log.Debug("disks trimmed", "bytes", r.GetDiskBytes())
}
