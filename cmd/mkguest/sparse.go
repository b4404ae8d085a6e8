// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"os"
)

// sparseBlock is the unit in which a sparse file is hashed.
const sparseBlock = 4096

// hashBlocks adds every block that is not all zeros to h, behind its offset as
// eight bytes, big-endian. Which of the zeros are holes makes no difference.
func hashBlocks(h hash.Hash, f *os.File) error {
	buf, zero := make([]byte, sparseBlock), make([]byte, sparseBlock)
	for off := int64(0); ; off += sparseBlock {
		next, err := nextData(f, off)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		off = next &^ (sparseBlock - 1)
		n, err := f.ReadAt(buf, off)
		if n == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if b := buf[:n]; !bytes.Equal(b, zero[:n]) {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(off)))
			h.Write(b)
		}
	}
}
