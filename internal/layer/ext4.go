// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// The few places of an ext4 image that are written after the writer is done.
// Offsets are those of the kernel's Documentation/filesystems/ext4; the image
// has 4 KiB blocks, 256-byte inodes, 32-byte descriptors and no checksums.
const (
	blockSize      = 4096
	inodeSize      = 256
	blocksPerGroup = 8 * blockSize
	descSize       = 32

	sbOffset     = 1024
	sbFreeBlocks = sbOffset + 0x0c
	sbFreeInodes = sbOffset + 0x10
	sbBlocks     = sbOffset + 0x04
	sbIPG        = sbOffset + 0x28
	sbMagic      = sbOffset + 0x38
	sbUUID       = sbOffset + 0x68
	sbLostFound  = sbOffset + 0x268

	gdBlockBitmap = 0
	gdInodeBitmap = 4
	gdInodeTable  = 8
	gdFreeBlocks  = 12
	gdFreeInodes  = 14
	gdUsedDirs    = 16

	inoLinks  = 26
	inoFlags  = 32
	inoExtent = 40 + 12

	rootInode      = 2
	lostFoundInode = 11

	modeChar     = 0x2000
	flagHugeFile = 0x40000
	direntChar   = 3
)

// image edits numbers in a file; the first error sticks.
type image struct {
	f interface {
		io.ReaderAt
		io.WriterAt
	}
	err error
}

func (m *image) read(off int64, n int) []byte {
	b := make([]byte, n)
	if m.err == nil {
		_, m.err = m.f.ReadAt(b, off)
	}
	return b
}

func (m *image) write(off int64, b []byte) {
	if m.err == nil {
		_, m.err = m.f.WriteAt(b, off)
	}
}

func (m *image) u16(off int64) uint16 { return binary.LittleEndian.Uint16(m.read(off, 2)) }
func (m *image) u32(off int64) uint32 { return binary.LittleEndian.Uint32(m.read(off, 4)) }

func (m *image) add16(off int64, d int) {
	m.write(off, binary.LittleEndian.AppendUint16(nil, uint16(int(m.u16(off))+d)))
}

func (m *image) add32(off int64, d int) {
	m.write(off, binary.LittleEndian.AppendUint32(nil, uint32(int64(m.u32(off))+int64(d))))
}

func (m *image) clearBit(off int64, bit uint32) {
	b := m.read(off+int64(bit/8), 1)
	b[0] &^= 1 << (bit % 8)
	m.write(off+int64(bit/8), b)
}

// desc is the offset of group g's descriptor; block that of block b.
func desc(g uint32) int64  { return blockSize + int64(g)*descSize }
func block(b uint32) int64 { return int64(b) * blockSize }

// inode is the offset of inode n, one of the first group.
func (m *image) inode(n uint32) int64 {
	return block(m.u32(desc(0)+gdInodeTable)) + int64(n-1)*inodeSize
}

// dirBlock is the first block of a directory: the leaf of its first extent.
func (m *image) dirBlock(inode int64) uint32 { return m.u32(inode + inoExtent + 8) }

// finishImage gives an image its UUID and takes away lost+found, which the writer
// adds for e2fsck's sake (it asks for one only where it may write) and which
// would show in every container.
func finishImage(f interface {
	io.ReaderAt
	io.WriterAt
}, id digest.Digest, lf lostFoundState,
) error {
	m := &image{f: f}
	if magic := m.u16(sbMagic); m.err == nil && magic != 0xef53 {
		return fmt.Errorf("magic %#x is not ext4's", magic)
	}
	uuid, err := hex.DecodeString(id.Encoded()[:32])
	if err != nil {
		return err
	}
	uuid[6] = uuid[6]&0x0f | 0x80 // RFC 9562: version 8, vendor's own
	uuid[8] = uuid[8]&0x3f | 0x80
	m.write(sbUUID, uuid)
	m.padInodeBitmaps()
	if lf != lostFoundKeep {
		m.dropLostFound(lf == lostFoundWhiteout)
	}
	return m.err
}

// padInodeBitmaps sets the bits behind the last inode of each group, which the
// writer leaves clear and e2fsck wants set.
func (m *image) padInodeBitmaps() {
	used := int64(m.u32(sbIPG) / 8)
	groups := (m.u32(sbBlocks) + blocksPerGroup - 1) / blocksPerGroup
	for g := range groups {
		if m.err != nil {
			return
		}
		pad := bytes.Repeat([]byte{0xff}, int(blockSize-used))
		m.write(block(m.u32(desc(g)+gdInodeBitmap))+used, pad)
	}
}

// dropLostFound unlinks the directory lost+found, or leaves an overlayfs
// whiteout in its place.
func (m *image) dropLostFound(whiteout bool) {
	root, lf := m.inode(rootInode), m.inode(lostFoundInode)
	data := m.dirBlock(lf)

	// The writer puts "." (12 bytes), ".." (12) and then children by inode
	// number, of which lost+found has the lowest.
	entry := block(m.dirBlock(root)) + 24
	if ino, name := m.u32(entry), m.read(entry+8, len(lostFound)); m.err == nil &&
		(ino != lostFoundInode || string(name) != lostFound) {
		m.err = errors.New("lost+found is not where the writer puts it")
		return
	}
	if whiteout {
		m.write(entry+7, []byte{direntChar})
	} else {
		m.add16(entry-12+4, int(m.u16(entry+4)))
	}
	m.add16(root+inoLinks, -1)

	node := make([]byte, inodeSize)
	if whiteout {
		binary.LittleEndian.PutUint16(node, modeChar)
		binary.LittleEndian.PutUint16(node[inoLinks:], 1)
		binary.LittleEndian.PutUint32(node[inoFlags:], flagHugeFile)
	} else {
		m.clearBit(block(m.u32(desc(0)+gdInodeBitmap)), lostFoundInode-1)
		m.add16(desc(0)+gdFreeInodes, 1)
		m.add32(sbFreeInodes, 1)
	}
	m.write(lf, node)
	m.add16(desc(0)+gdUsedDirs, -1)

	group := data / blocksPerGroup
	m.clearBit(block(m.u32(desc(group)+gdBlockBitmap)), data%blocksPerGroup)
	m.add16(desc(group)+gdFreeBlocks, 1)
	m.add32(sbFreeBlocks, 1)
	m.write(block(data), make([]byte, blockSize))
	m.write(sbLostFound, make([]byte, 4))
}
