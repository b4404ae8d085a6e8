// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"fmt"
	"io"
)

// VHDFooterSize is how many bytes a fixed VHD is longer than the disk in it.
const VHDFooterSize = 512

// VHDFooter returns the footer that makes a raw disk of size bytes a fixed VHD,
// the form in which Hyper-V attaches a disk file. The identifier has no use
// here and must differ between disks attached together. Size must be a multiple
// of 512. The layout is that of Microsoft's "Virtual Hard Disk Image Format
// Specification", version 1.0; the time stamp is zero, so that equal disks give
// equal files.
func VHDFooter(size int64, id [16]byte) ([VHDFooterSize]byte, error) {
	var b [VHDFooterSize]byte
	if size <= 0 || size%512 != 0 {
		return b, fmt.Errorf("disk size %d is not a multiple of 512", size)
	}
	be := binary.BigEndian
	copy(b[0:], "conectix")
	be.PutUint32(b[8:], 2)           // features: reserved, always set
	be.PutUint32(b[12:], 0x00010000) // format version
	be.PutUint64(b[16:], 1<<64-1)    // data offset: none in a fixed disk
	copy(b[28:], "byre")
	be.PutUint32(b[32:], 0x00010000)
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], uint64(size))
	be.PutUint64(b[48:], uint64(size))
	c, h, s := geometry(size / 512)
	be.PutUint16(b[56:], c)
	b[58], b[59] = h, s
	be.PutUint32(b[60:], 2) // fixed disk
	copy(b[68:], id[:])
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	be.PutUint32(b[64:], ^sum)
	return b, nil
}

// AppendVHDFooter writes the footer behind the end of w, a raw disk.
func AppendVHDFooter(w io.WriteSeeker, id [16]byte) error {
	size, err := w.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	b, err := VHDFooter(size, id)
	if err != nil {
		return err
	}
	_, err = w.Write(b[:])
	return err
}

// geometry is the appendix "CHS Calculation" of the specification.
func geometry(sectors int64) (cylinders uint16, heads, perTrack uint8) {
	sectors = min(sectors, 65535*16*255)
	var cth, h, spt int64
	if sectors >= 65535*16*63 {
		spt, h = 255, 16
		return uint16(sectors / spt / h), uint8(h), uint8(spt)
	}
	spt = 17
	cth = sectors / spt
	h = max((cth+1023)/1024, 4)
	if cth >= h*1024 || h > 16 {
		spt, h = 31, 16
		cth = sectors / spt
	}
	if cth >= h*1024 {
		spt, h = 63, 16
		cth = sectors / spt
	}
	return uint16(cth / h), uint8(h), uint8(spt)
}
