// SPDX-License-Identifier: Apache-2.0

// Package logs keeps what containers write: files in Docker's json-file format,
// one JSON object per line, rotated by size, read back with filters and
// followed while they grow.
//
// A [File] is the one writer of a container's log; any number of readers follow
// it through [File.Read], each at its own pace: a reader never holds up the
// writer, because the file is what it reads. Files of containers that do not
// run are read with [Read].
//
// Output that is not valid UTF-8 has no exact form in Docker's format; such
// entries carry a field "raw" with the bytes in base64 beside the usual ones, so
// that nothing is lost.
//
// Lock order: File.mu alone. It is held across writes to the file, never across
// a reader's callback.
package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Stream names, as the format spells them.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// Options bound the files of a log. Zero values mean no rotation.
type Options struct {
	// MaxSize is the size in bytes at which a file is set aside; 0 means never.
	MaxSize int64
	// MaxFiles is how many files are kept, the current one included.
	MaxFiles int
}

// maxLine is where a line without an end is cut into partial entries; Docker
// cuts there too.
const maxLine = 16 << 10

// File is a log being written.
type File struct {
	path string
	opts Options

	// mu guards what follows.
	mu      sync.Mutex
	f       *os.File
	size    int64
	buf     []byte
	partial map[string][]byte
	changed chan struct{}
	closed  bool
}

// Open opens the log at path for appending, making it if it is missing. An
// entry that a killed process left half written is cut off.
func Open(path string, opts Options) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	size, err := wholeSize(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", path, err), f.Close())
	}
	return &File{
		path: path, opts: opts, f: f, size: size,
		partial: map[string][]byte{},
		changed: make(chan struct{}),
	}, nil
}

// wholeSize returns the offset behind the last whole entry.
func wholeSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	start, err := tailOffset(f, info.Size(), 0)
	return start, err
}

// Write appends what a stream produced. Whole lines become entries at once; the
// rest waits for its end, for Flush, or until it is too long for one entry.
func (l *File) Write(stream string, p []byte, at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	rest, stamp := l.partial[stream], encodeTime(at)
	l.buf = l.buf[:0]
	for len(p) > 0 {
		n, whole := cutLine(p, maxLine-len(rest))
		if !whole && len(rest)+n < maxLine {
			rest = append(rest, p[:n]...)
			break
		}
		line := p[:n]
		if len(rest) > 0 {
			line = append(rest, line...)
			rest = rest[:0]
		}
		l.buf = appendEntry(l.buf, stream, line, stamp)
		p = p[n:]
		if l.opts.MaxSize > 0 && l.size+int64(len(l.buf)) > l.opts.MaxSize {
			if err := l.commitLocked(); err != nil {
				l.partial[stream] = rest
				return err
			}
			l.buf = l.buf[:0]
		}
	}
	l.partial[stream] = rest
	return l.commitLocked()
}

// Pending says whether a stream has an unfinished line that only Flush or more
// output will write.
func (l *File) Pending(stream string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.partial[stream]) > 0
}

// Flush writes the unfinished line of a stream as an entry without an end.
func (l *File) Flush(stream string, at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	return l.flushLocked(stream, at)
}

func (l *File) flushLocked(stream string, at time.Time) error {
	rest := l.partial[stream]
	if len(rest) == 0 {
		return nil
	}
	l.buf = appendEntry(l.buf[:0], stream, rest, encodeTime(at))
	l.partial[stream] = rest[:0]
	return l.commitLocked()
}

// Close writes what is unfinished and ends the log: readers that follow it
// return when they have read everything. It is idempotent.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	var errs []error
	for stream := range l.partial {
		errs = append(errs, l.flushLocked(stream, time.Now()))
	}
	l.closed = true
	close(l.changed)
	return errors.Join(append(errs, l.f.Close())...)
}

// commitLocked writes the encoded entries and wakes the readers. After a write
// that failed half way the file ends with its last whole entry.
func (l *File) commitLocked() error {
	if len(l.buf) == 0 {
		return nil
	}
	if l.opts.MaxSize > 0 && l.size > 0 && l.size+int64(len(l.buf)) > l.opts.MaxSize {
		if err := l.rotateLocked(); err != nil {
			return fmt.Errorf("rotate log %s: %w", l.path, err)
		}
	}
	if _, err := l.f.Write(l.buf); err != nil {
		_, seekErr := l.f.Seek(l.size, io.SeekStart)
		return errors.Join(fmt.Errorf("write log: %w", err), l.f.Truncate(l.size), seekErr)
	}
	l.size += int64(len(l.buf))
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// rotateLocked sets the current file aside. Readers keep the file they have
// open and find the next one by its identity.
func (l *File) rotateLocked() error {
	for i := l.opts.MaxFiles - 1; i > 0; i-- {
		older := numbered(l.path, i-1)
		if err := os.Rename(older, numbered(l.path, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	// With a single file there is nothing to keep: it starts over as a new
	// file, so that readers see the change.
	if l.opts.MaxFiles <= 1 {
		if err := os.Remove(l.path); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	err = l.f.Close()
	l.f, l.size = f, 0
	return err
}

// numbered is the name of the i-th file set aside; 0 is the current one.
func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// watch returns a channel that is closed at the next change, and whether the
// log has ended.
func (l *File) watch() (<-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.closed
}

// Remove deletes the files of a log.
func Remove(path string) error {
	err := os.Remove(path)
	for i := 1; ; i++ {
		if os.Remove(numbered(path, i)) != nil {
			break
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
