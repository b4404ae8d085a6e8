// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"sync"

	"byre.dev/byre/internal/linux"
)

// sidecar keeps stored metadata of files that cannot carry it: a journal of
// one line per change, "checksum device inode birth uid:gid:0mode", of which
// the last for a file counts. A line is appended by one write; what a crash
// left of one is passed over. Files are told apart by the time of their birth
// as well, so a line of a file that is gone is never taken for another's.
// Several servers may use one journal: each reads what the others append.
type sidecar struct {
	path string

	mu sync.Mutex
	// file, read and known are guarded by mu; read is how far the journal has
	// been taken in.
	file  *os.File
	read  int64
	known map[fileID]stored
}

// get returns the metadata of a file, if there is any.
func (s *sidecar) get(id fileID) (stored, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openLocked(os.O_RDWR) != nil {
		return stored{}, false
	}
	s.refreshLocked()
	v, ok := s.known[id]
	return v, ok
}

// put stores the metadata of a file.
func (s *sidecar) put(id fileID, v stored) linux.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(os.O_RDWR | os.O_CREATE); err != nil {
		return linux.EOPNOTSUPP
	}
	s.refreshLocked()
	text := fmt.Sprintf("%x %x %x %s", id.dev, id.ino, id.birth, v)
	line := fmt.Sprintf("%08x %s\n", crc32.ChecksumIEEE([]byte(text)), text)
	if s.tornLocked() {
		line = "\n" + line
	}
	if _, err := s.file.Write([]byte(line)); err != nil {
		return linux.ENOSPC
	}
	s.known[id] = v
	return 0
}

var errNoSidecar = errors.New("no sidecar")

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
	s.file, s.known = f, make(map[fileID]stored)
	return nil
}

// refreshLocked takes in the whole lines that were appended since.
func (s *sidecar) refreshLocked() {
	info, err := s.file.Stat()
	if err != nil || info.Size() <= s.read {
		return
	}
	buf := make([]byte, info.Size()-s.read)
	n, err := s.file.ReadAt(buf, s.read)
	if err != nil && err != io.EOF {
		return
	}
	end := strings.LastIndexByte(string(buf[:n]), '\n') + 1
	s.read += int64(end)
	for line := range strings.SplitSeq(string(buf[:end]), "\n") {
		if id, v, ok := parseLine(line); ok {
			s.known[id] = v
		}
	}
}

// tornLocked says whether the journal ends within a line.
func (s *sidecar) tornLocked() bool {
	info, err := s.file.Stat()
	return err == nil && info.Size() > s.read
}

func parseLine(line string) (id fileID, v stored, ok bool) {
	sum, text, _ := strings.Cut(line, " ")
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) != sum {
		return id, v, false
	}
	var meta string
	if _, err := fmt.Sscanf(text, "%x %x %x %s", &id.dev, &id.ino, &id.birth, &meta); err != nil {
		return id, v, false
	}
	v, ok = parseStored(meta)
	return id, v, ok
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
