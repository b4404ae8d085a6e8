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
func (f *fifoOut) unread() bool {
	events, err := pollNow(f.File)
	return err == nil && events&unix.POLLIN != 0
}

// fifoIn reads a FIFO that it also holds open for writing from begin on: a
// writer that goes away later does not end the input.
type fifoIn struct {
	*os.File
	path string

	mu sync.Mutex
	// holder is our own hold, nil when there is none. Guarded by mu, as is
	// finishing.
	holder    *os.File
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
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &fifoIn{File: f, path: path}, nil
}

// begin decides what the end of the last writer means. A writer that came and
// went before the process started had no way to close the input by a call: its
// end is the input's. From now on only finish ends it.
func (f *fifoIn) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	events, err := pollNow(f.File)
	if err != nil {
		return err
	}
	if f.finishing || events&unix.POLLHUP != 0 {
		return nil
	}
	f.holder, err = os.OpenFile(f.path, os.O_RDWR|unix.O_NONBLOCK, 0)
	return err
}

// finishIdle is how long a FIFO that another writer still holds open must be
// silent, once the input was ended, to be taken for empty.
const finishIdle = 100 * time.Millisecond

// finish gives up our own hold, so that the end of the data is the end of the
// input, or silence where another holds the FIFO still.
func (f *fifoIn) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finishing = true
	f.dropLocked()
	_ = f.SetReadDeadline(time.Now().Add(finishIdle))
}

func (f *fifoIn) dropLocked() {
	if f.holder != nil {
		_ = f.holder.Close()
		f.holder = nil
	}
}

// Read reads; once the input is to end, silence ends it. A deadline that has
// passed while the process was slow to take what came before is no silence.
func (f *fifoIn) Read(b []byte) (int, error) {
	for {
		n, err := f.File.Read(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		events, perr := pollNow(f.File)
		if perr != nil || events&unix.POLLIN == 0 {
			return 0, io.EOF
		}
		_ = f.SetReadDeadline(time.Now().Add(finishIdle))
	}
}

// Close ends reading at once; a writer gets SIGPIPE.
func (f *fifoIn) Close() error {
	f.mu.Lock()
	f.dropLocked()
	f.mu.Unlock()
	if err := f.File.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close standard input: %w", err)
	}
	return nil
}

// pollNow says what a FIFO is ready for, without waiting.
func pollNow(f *os.File) (events int16, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, perr := unix.Poll(fds, 0); perr == nil {
			events = fds[0].Revents
		}
	})
	return events, err
}

// fileIn is a regular file or device as standard input: its end is the end.
type fileIn struct{ *os.File }

func (fileIn) begin() error { return nil }

func (fileIn) finish() {}
