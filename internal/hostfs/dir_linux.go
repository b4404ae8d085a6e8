// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dirEntry is what the host lists; next is its cookie for what follows.
type dirEntry struct {
	ino, next uint64
	typ       uint8
	name      string
}

// dirReader reads a directory with getdents64, whose cookies stay valid
// whatever is made or removed meanwhile.
type dirReader struct {
	buf        []byte
	start, end int
	// at is the cookie of the next entry in buf, size its length.
	at   uint64
	size int
}

// Offsets in struct linux_dirent64.
const (
	direntNext = 8
	direntLen  = 16
	direntType = 18
	direntName = 19
)

// seek goes to a cookie. The beginning is always read anew.
func (d *dirReader) seek(fd int, off uint64) error {
	if off == d.at && off != 0 {
		return nil
	}
	d.start, d.end, d.at = 0, 0, off
	_, err := unix.Seek(fd, int64(off), unix.SEEK_SET)
	return err
}

// peek tells of the next entry without passing it; false at the end.
func (d *dirReader) peek(fd int, e *dirEntry) (bool, error) {
	if d.start >= d.end {
		if d.buf == nil {
			d.buf = make([]byte, 32<<10)
		}
		n := 0
		err := retry(func() (err error) { n, err = unix.Getdents(fd, d.buf); return err })
		if err != nil || n == 0 {
			return false, err
		}
		d.start, d.end = 0, n
	}
	b := d.buf[d.start:d.end]
	d.size = int(binary.NativeEndian.Uint16(b[direntLen:]))
	name := b[direntName:d.size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	e.ino = binary.NativeEndian.Uint64(b)
	e.next = binary.NativeEndian.Uint64(b[direntNext:])
	e.typ, e.name = b[direntType], string(name)
	return true, nil
}

// take passes the entry that peek told of.
func (d *dirReader) take() {
	d.at = binary.NativeEndian.Uint64(d.buf[d.start+direntNext:])
	d.start += d.size
}
