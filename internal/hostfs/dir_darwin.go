// SPDX-License-Identifier: Apache-2.0

package hostfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dirEntry is what the host lists; next is the cookie for what follows.
type dirEntry struct {
	ino, next uint64
	typ       uint8
	name      string
}

// dirReader lists a directory as it was when it was last read from the
// beginning: APFS gives no cookies that outlast a change. A cookie is a place
// in that list.
type dirReader struct {
	list []dirEntry
	at   int
}

// Offsets in struct dirent.
const (
	direntLen  = 16
	direntNlen = 18
	direntType = 20
	direntName = 21
)

func (d *dirReader) seek(fd int, off uint64) error {
	if off != 0 {
		d.at = int(min(off, uint64(len(d.list))))
		return nil
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	d.list, d.at = nil, 0
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return err
		}
		d.add(buf[:n])
	}
}

func (d *dirReader) add(b []byte) {
	for len(b) > direntName {
		size := int(binary.NativeEndian.Uint16(b[direntLen:]))
		nlen := int(binary.NativeEndian.Uint16(b[direntNlen:]))
		if size < direntName+nlen || size > len(b) {
			return
		}
		if ino := binary.NativeEndian.Uint64(b); ino != 0 {
			d.list = append(d.list, dirEntry{
				ino: ino, next: uint64(len(d.list) + 1), typ: b[direntType],
				name: string(b[direntName : direntName+nlen]),
			})
		}
		b = b[size:]
	}
}

func (d *dirReader) peek(_ int, e *dirEntry) (bool, error) {
	if d.at >= len(d.list) {
		return false, nil
	}
	*e = d.list[d.at]
	return true, nil
}

func (d *dirReader) take() { d.at++ }
