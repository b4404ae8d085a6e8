// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const binaryLogs = true

// openOutput opens a FIFO for reading and writing, so that opening does not
// wait for a reader, a reader that goes away stops the flow instead of breaking
// it, and a new one finds everything. Anything else is appended to.
func openOutput(path string) (io.WriteCloser, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Type() != os.ModeNamedPipe {
		return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &fifoOut{File: f}, nil
}

// fifoOut is a FIFO whose blocked writer can be woken.
type fifoOut struct {
	*os.File
	ended atomic.Bool
}

func (f *fifoOut) unblock() { _ = f.SetWriteDeadline(time.Unix(1, 0)) }

// lingerEvery is how often a FIFO that has ended is looked at.
const lingerEvery = 5 * time.Millisecond

// Close ends the output, at once to its caller. What nobody has read yet must
// not go with the last open end of the FIFO: the first Close leaves it open for
// a reader that is still to come, a daemon that is started again. The second
// one, when the process is deleted, ends that.
func (f *fifoOut) Close() error {
	if f.ended.Swap(true) || !f.unread() {
		return f.File.Close()
	}
	go func() { // ends with the last byte read or the second Close
		for f.unread() {
			time.Sleep(lingerEvery)
		}
		_ = f.File.Close()
	}()
	return nil
}

// unread says whether there are bytes in the FIFO.
func (f *fifoOut) unread() (yes bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		yes = n > 0 && err == nil
	})
	return yes && err == nil
}

// fifoIn reads a FIFO that it also holds open for writing: a writer that goes
// away does not end the input.
type fifoIn struct {
	*os.File
	holder *os.File
	once   sync.Once

	mu sync.Mutex
	// finishing is guarded by mu.
	finishing bool
}

func openInput(path string) (input, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Type() != os.ModeNamedPipe {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return fileIn{f}, nil
	}
	holder, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Join(err, holder.Close())
	}
	return &fifoIn{File: f, holder: holder}, nil
}

// finishIdle is how long a FIFO that another writer still holds open must be
// silent, once the input was ended, to be taken for empty.
const finishIdle = 100 * time.Millisecond

// finish gives up our own hold, so that the end of the data is the end of the
// input, or silence where another holds the FIFO still.
func (f *fifoIn) finish() {
	f.mu.Lock()
	f.finishing = true
	f.mu.Unlock()
	f.drop()
	_ = f.SetReadDeadline(time.Now().Add(finishIdle))
}

func (f *fifoIn) drop() { f.once.Do(func() { _ = f.holder.Close() }) }

// Read reads; once the input is to end, silence ends it.
func (f *fifoIn) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, io.EOF
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.finishing && err == nil {
		_ = f.SetReadDeadline(time.Now().Add(finishIdle))
	}
	return n, err
}

// Close ends reading at once; a writer gets SIGPIPE.
func (f *fifoIn) Close() error {
	f.drop()
	if err := f.File.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close standard input: %w", err)
	}
	return nil
}

// fileIn is a regular file or device as standard input: its end is the end.
type fileIn struct{ *os.File }

func (fileIn) finish() {}
