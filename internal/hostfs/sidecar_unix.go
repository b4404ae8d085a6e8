// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// sidecar keeps the metadata of files that cannot carry it: a journal of one
// line per change, of which the last for a file counts. A change is appended
// by one write; what a crash left of one is passed over. Files are told apart
// by the time of their birth as well, so a line of a file that is gone is
// never taken for another's, where the host tells that time.
//
// Several servers may use one journal: each reads what the others append.
// Who writes holds the file with flock(2); a sweep writes a new journal and
// renames it over the old, which the others notice by its having no name.
type sidecar struct {
	path string

	mu sync.Mutex
	// file, read, known, dirty and touched are guarded by mu. read is how far
	// the journal has been taken in; dirty says that what was appended is not
	// synced; touched, while a sweep runs, collects what is in use.
	file    *os.File
	read    int64
	known   map[fileID]*meta
	dirty   bool
	touched map[fileID]bool
}

// Bounds of what a guest can make a sidecar hold.
const (
	maxSidecar   = 64 << 20
	maxFileAttrs = 64 << 10
)

var errNoSidecar error = unix.EOPNOTSUPP

// get returns the metadata of a file, nil if there is none.
func (s *sidecar) get(id fileID) *meta {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openLocked(os.O_RDWR) != nil || s.refreshLocked() != nil {
		return nil
	}
	m := s.known[id]
	if m != nil && s.touched != nil {
		s.touched[id] = true
	}
	return m
}

// holdsAny says whether there is any metadata.
func (s *sidecar) holdsAny() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openLocked(os.O_RDWR) == nil && s.refreshLocked() == nil && len(s.known) > 0
}

// put stores changes of a file's metadata, all or none of them.
func (s *sidecar) put(id fileID, changes ...record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lockLocked(); err != nil {
		return err
	}
	defer s.unlockLocked()
	var lines []byte
	if s.tornLocked() {
		lines = append(lines, '\n')
	}
	next := s.known[id]
	for _, r := range next.orphaned(changes) {
		next = next.with(r)
		lines = appendLine(lines, id, r)
	}
	if s.read+int64(len(lines)) > maxSidecar || next.size() > maxFileAttrs {
		return unix.ENOSPC
	}
	if _, err := s.file.Write(lines); err != nil {
		return err
	}
	s.dirty = true
	if s.touched != nil {
		s.touched[id] = true
	}
	return s.refreshLocked()
}

// sync makes what was put durable.
func (s *sidecar) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty || s.file == nil {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// lockLocked opens the journal, making it if need be, keeps other processes
// from writing to it and takes in what they wrote.
func (s *sidecar) lockLocked() error {
	for {
		if err := s.openLocked(os.O_RDWR | os.O_CREATE); err != nil {
			return err
		}
		fd := int(s.file.Fd())
		if err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX) }); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink > 0 {
			if err == nil {
				err = s.refreshLocked()
			}
			if err != nil {
				s.unlockLocked()
			}
			return err
		}
		s.forgetLocked()
	}
}

func (s *sidecar) unlockLocked() {
	if s.file != nil {
		_ = unix.Flock(int(s.file.Fd()), unix.LOCK_UN)
	}
}

func (s *sidecar) openLocked(flags int) error {
	if s.path == "" {
		return errNoSidecar
	}
	if s.file != nil {
		return nil
	}
	f, err := os.OpenFile(s.path, flags|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	s.file, s.read, s.known = f, 0, make(map[fileID]*meta)
	return nil
}

// forgetLocked closes a journal that another has taken the place of.
func (s *sidecar) forgetLocked() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// refreshLocked takes in the whole lines that were appended since, or all of a
// new journal.
func (s *sidecar) refreshLocked() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		s.forgetLocked()
		if err := s.openLocked(os.O_RDWR); err != nil {
			return err
		}
		return s.refreshLocked()
	}
	if st.Size <= s.read {
		return nil
	}
	buf := make([]byte, min(st.Size-s.read, 2*maxSidecar))
	n, err := s.file.ReadAt(buf, s.read)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	end := bytes.LastIndexByte(buf[:n], '\n') + 1
	s.read += int64(end)
	for line := range bytes.SplitSeq(buf[:end], []byte{'\n'}) {
		if id, r, ok := parseLine(line); ok {
			s.applyLocked(id, r)
		}
	}
	return nil
}

// applyLocked takes a record in. Without a time of birth the number of a file
// that is gone may be the next one's.
func (s *sidecar) applyLocked(id fileID, r record) {
	m := s.known[id].with(r)
	if m == nil || m.gone && id.birth == 0 {
		delete(s.known, id)
		return
	}
	s.known[id] = m
}

// tornLocked says whether the journal ends within a line.
func (s *sidecar) tornLocked() bool {
	info, err := s.file.Stat()
	return err == nil && info.Size() > s.read
}

func (s *sidecar) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
