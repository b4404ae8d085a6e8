// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Query selects entries of a log.
type Query struct {
	// Tail is how many of the last entries to start with; negative means all.
	Tail int
	// Since and Until bound the entries' time; zero means unbounded.
	Since, Until time.Time
	// Follow waits for more at the end, until the log is closed.
	Follow bool
}

// Read gives the entries selected to emit, oldest first. It returns when all
// were given, when ctx ends, or with the error of emit.
func (l *File) Read(ctx context.Context, q Query, emit func(Entry) error) error {
	return read(ctx, l.path, l, q, emit)
}

// Read reads a log that nobody writes; Follow has no effect. A log that is
// missing is empty.
func Read(ctx context.Context, path string, q Query, emit func(Entry) error) error {
	return read(ctx, path, nil, q, emit)
}

func read(ctx context.Context, path string, live *File, q Query, emit func(Entry) error) error {
	r := &reader{path: path, live: live, query: q, emit: emit}
	err := r.run(ctx)
	if r.f != nil {
		err = errors.Join(err, r.f.Close())
	}
	if errors.Is(err, errPast) {
		return nil
	}
	return err
}

// errPast ends a reader behind Query.Until.
var errPast = errors.New("past the end of the time asked for")

// reader goes through the files of a log from the oldest to the current one.
type reader struct {
	path  string
	live  *File
	query Query
	emit  func(Entry) error

	f *os.File
	// line holds the start of an entry whose end was not read yet.
	line []byte
}

func (r *reader) run(ctx context.Context) error {
	if err := r.seekStart(); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Watch before reading: what is written after the read is a change.
		var changed <-chan struct{}
		ended := true
		if r.live != nil {
			changed, ended = r.live.watch()
		}
		if r.f != nil {
			if err := r.readFile(ctx); err != nil {
				return err
			}
		}
		more, err := r.nextFile(ctx)
		switch {
		case err != nil:
			return err
		case more:
			continue
		case ended || !r.query.Follow:
			return nil
		}
		if err := r.await(ctx, changed); err != nil {
			return err
		}
	}
}

func (r *reader) await(ctx context.Context, changed <-chan struct{}) error {
	var late <-chan time.Time
	if !r.query.Until.IsZero() {
		t := time.NewTimer(time.Until(r.query.Until))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-late:
		return errPast
	case <-changed:
		return nil
	}
}

// hold keeps the log from being rotated while its files are looked through.
func (r *reader) hold() (release func()) {
	if r.live == nil {
		return func() {}
	}
	r.live.mu.Lock()
	return r.live.mu.Unlock
}

// seekStart opens the file in which the entries asked for begin.
func (r *reader) seekStart() error {
	defer r.hold()()
	count := 0
	for n := r.query.Tail; ; count++ {
		f, err := os.Open(numbered(r.path, count))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		if r.f != nil {
			_ = r.f.Close()
		}
		r.f = f
		if n < 0 {
			continue
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		found, off, err := lastEntries(f, info.Size(), n)
		if err != nil {
			return fmt.Errorf("read log %s: %w", f.Name(), err)
		}
		if found >= n {
			_, err := f.Seek(off, io.SeekStart)
			return err
		}
		n -= found
	}
}

// readFile gives every whole entry from where the file stands.
func (r *reader) readFile(ctx context.Context) error {
	br := bufio.NewReaderSize(r.f, 64<<10)
	for ctx.Err() == nil {
		part, err := br.ReadSlice('\n')
		r.line = append(r.line, part...)
		switch {
		case err == nil:
			if err := r.give(); err != nil {
				return err
			}
			r.line = r.line[:0]
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return fmt.Errorf("read log: %w", err)
		}
	}
	return ctx.Err()
}

func (r *reader) give() error {
	e, err := decodeEntry(r.line)
	if err != nil {
		return err
	}
	if !r.query.Until.IsZero() && e.Time.After(r.query.Until) {
		return errPast
	}
	if e.Time.Before(r.query.Since) {
		return nil
	}
	return r.emit(e)
}

// nextFile moves to the file after the one that was read, if there is one: the
// log was rotated meanwhile, or older files were read first.
func (r *reader) nextFile(ctx context.Context) (bool, error) {
	if r.f == nil {
		f, err := os.Open(r.path)
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		r.f = f
		return true, nil
	}
	own, err := r.f.Stat()
	if err != nil {
		return false, err
	}
	next, err := r.following(own)
	if next == nil || err != nil {
		return false, err
	}
	// What was written between the read and the rotation is read now; nothing
	// more comes into a file that was set aside.
	err = r.readFile(ctx)
	_ = r.f.Close()
	r.f, r.line = next, r.line[:0]
	return true, err
}

// following opens the file that comes after own: the next younger one, or the
// oldest there is when own was deleted.
func (r *reader) following(own os.FileInfo) (*os.File, error) {
	defer r.hold()()
	for i := 0; ; i++ {
		info, err := os.Stat(numbered(r.path, i))
		if errors.Is(err, os.ErrNotExist) {
			if i == 0 {
				return nil, nil
			}
			return os.Open(numbered(r.path, i-1))
		}
		if err != nil {
			return nil, err
		}
		if os.SameFile(own, info) {
			if i == 0 {
				return nil, nil
			}
			return os.Open(numbered(r.path, i-1))
		}
	}
}

// tailOffset returns the offset at which the last n entries of a file begin;
// for n = 0 that is the end of its last whole entry.
func tailOffset(f io.ReaderAt, size int64, n int) (int64, error) {
	_, off, err := lastEntries(f, size, n)
	return off, err
}

// lastEntries looks for the last n entries from the end of a file and returns
// how many there are and the offset of the first of them.
func lastEntries(f io.ReaderAt, size int64, n int) (found int, off int64, err error) {
	const block = 64 << 10
	buf := make([]byte, block)
	// Newlines end entries: the n+1st from the end is the one before the first.
	newlines := 0
	for end := size; end > 0; {
		start := max(0, end-block)
		b := buf[:end-start]
		if _, err := f.ReadAt(b, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(b, '\n'); i >= 0; i = bytes.LastIndexByte(b[:i], '\n') {
			if newlines++; newlines > n {
				return n, start + int64(i) + 1, nil
			}
		}
		end = start
	}
	return newlines, 0, nil
}
