// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/linux"
)

// sweepSize is the size from which a journal is swept when a share is opened.
const sweepSize = 256 << 10

// sweepIfLarge begins a sweep if the journal has grown; Close waits for it.
func (fs *FS) sweepIfLarge() {
	ctx, cancel := context.WithCancel(context.Background())
	fs.endSweep = cancel
	info, err := os.Stat(fs.side.path)
	if err != nil || info.Size() < sweepSize || fs.cfg.ReadOnly {
		return
	}
	fs.sweeps.Go(func() {
		if err := fs.sweep(ctx); err != nil && ctx.Err() == nil {
			fs.log.Warn("sidecar not swept", "share", fs.cfg.Path, "err", err)
		}
	})
}

// sweep looks for the files that the sidecar knows and writes a new journal
// without those that are gone. A file that the host moves just then may be
// overlooked: it takes two sweeps to lose what is known of one.
func (fs *FS) sweep(ctx context.Context) error {
	s := &fs.side
	s.mu.Lock()
	if err := s.lockLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.unlockLocked()
	wanted := make(map[fileID]bool, len(s.known))
	inos := make(map[uint64]bool, len(s.known))
	for id := range s.known {
		wanted[id] = true
		inos[id.ino] = true
	}
	s.touched = make(map[fileID]bool)
	s.mu.Unlock()

	w := sweeper{ctx: ctx, inos: inos, seen: make(map[fileID]bool)}
	err := w.dir(int(fs.root.fd), 0)

	s.mu.Lock()
	defer s.mu.Unlock()
	touched := s.touched
	s.touched = nil
	if err != nil {
		return err
	}
	return s.rewriteLocked(func(id fileID, m *meta) *meta {
		n := *m
		n.missed = false
		switch {
		case w.seen[id] || touched[id] || !wanted[id]:
			return &n
		case m.missed || m.gone:
			return nil
		}
		n.missed = true
		return &n
	})
}

// rewriteLocked writes a new journal of what keep returns and puts it in the
// old one's place.
func (s *sidecar) rewriteLocked(keep func(fileID, *meta) *meta) (err error) {
	if err := s.lockLocked(); err != nil {
		return err
	}
	defer s.forgetLocked() // which gives up the lock
	var b []byte
	for id, m := range s.known {
		if m = keep(id, m); m == nil {
			continue
		}
		for _, r := range m.records() {
			b = appendLine(b, id, r)
		}
	}
	tmp := s.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, s.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweeper walks a share in search of files by their numbers.
type sweeper struct {
	ctx  context.Context
	inos map[uint64]bool
	seen map[fileID]bool
}

// maxSweepDepth bounds the directories that are open at a time.
const maxSweepDepth = 200

func (w *sweeper) dir(handle, depth int) error {
	if depth > maxSweepDepth {
		return fmt.Errorf("more than %d levels deep", maxSweepDepth)
	}
	fd, err := reopen(handle, linux.ORdonly|linux.ODirectory)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	var d dirReader
	var e dirEntry
	for {
		ok, err := d.peek(fd, &e)
		if err != nil || !ok {
			return err
		}
		d.take()
		if e.name == "." || e.name == ".." {
			continue
		}
		if err := w.entry(fd, &e, depth); err != nil {
			return err
		}
	}
}

// entry notes a file, and what is below it. That it is gone by now is no
// matter.
func (w *sweeper) entry(dfd int, e *dirEntry, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var st stat
	if w.inos[e.ino] || e.typ == linux.DTUnknown {
		if statAt(dfd, e.name, &st) != nil {
			return nil
		}
		w.seen[st.id] = true
	}
	if e.typ != linux.DTDir && !st.mode.IsDir() {
		return nil
	}
	h, err := openHandle(dfd, e.name)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			return nil
		}
		return err
	}
	defer closeFD(h)
	return w.dir(h, depth+1)
}
