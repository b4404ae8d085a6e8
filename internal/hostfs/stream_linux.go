// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/p9/p9srv"
)

var _ p9srv.Streamer = (*file)(nil)

// minStream is the least that is streamed: below it a copy costs less than
// the system calls.
const minStream = 64 << 10

// Streamable says how much of a read is in the page cache, from where
// sendfile(2) puts it into a Unix socket by reference. What would have to be
// read from the disk first could fail after the reply has begun.
func (f *file) Streamable(w io.Writer, n int, off int64) int {
	if _, ok := w.(*net.UnixConn); !ok || n < minStream || f.copies.Load() || !f.ino.kind.IsRegular() {
		return 0
	}
	var st unix.Stat_t
	if unix.Fstat(f.fd, &st) != nil || st.Size-off < minStream {
		return 0
	}
	n = int(min(int64(n), st.Size-off))
	var have unix.Cachestat_t
	err := unix.Cachestat(uint(f.fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &have, 0)
	if err != nil { // Linux before 6.5, or a file system without pages
		f.copies.Store(true)
		return 0
	}
	page := int64(unix.Getpagesize())
	if pages := (off+int64(n)-1)/page - off/page + 1; have.Cache < uint64(pages) {
		return 0
	}
	return n
}

// Stream sends pages of the page cache.
func (f *file) Stream(w io.Writer, n int, off int64) error {
	conn, ok := w.(*net.UnixConn)
	if !ok {
		return f.copyTo(w, n, off)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	for n > 0 {
		var sent int
		var failed error
		err := raw.Write(func(fd uintptr) bool {
			failed = retry(func() error { sent, err = unix.Sendfile(int(fd), f.fd, &off, n); return err })
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil {
			return err
		}
		if failed != nil || sent == 0 {
			f.copies.Store(failed != nil)
			return f.copyTo(w, n, off)
		}
		n -= sent
	}
	return nil
}

// copyTo writes what sendfile did not, and zeros for what is there no more.
func (f *file) copyTo(w io.Writer, n int, off int64) error {
	buf := make([]byte, n)
	if got, e := f.Read(buf, off); e != 0 {
		return e
	} else if got < n {
		clear(buf[got:])
	}
	_, err := w.Write(buf)
	return err
}
