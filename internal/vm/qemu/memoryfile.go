// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// pageSize is the guest's.
const pageSize = 4096

// extent is a run of touched memory: n bytes at off.
type extent struct {
	Off int64 `json:"off"`
	N   int64 `json:"n"`
}

// packMemory writes the pages of a memory file that are not zero to out, one
// behind the other, and returns where they belong.
func packMemory(memory *os.File, size int64, out io.Writer) ([]extent, error) {
	var extents []extent
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; {
		start, err := memory.Seek(off, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find touched memory: %w", err)
		}
		end, err := memory.Seek(start, seekHole)
		if err != nil {
			return nil, fmt.Errorf("find touched memory: %w", err)
		}
		for off = start; off < end; {
			n, err := memory.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
			if n == 0 {
				return nil, fmt.Errorf("read memory file: %w", err)
			}
			if extents, err = packPages(extents, buf[:n], off, out); err != nil {
				return nil, err
			}
			off += int64(n)
		}
	}
	return extents, nil
}

func packPages(extents []extent, b []byte, off int64, out io.Writer) ([]extent, error) {
	zero := make([]byte, pageSize)
	for len(b) > 0 {
		page := b[:min(pageSize, len(b))]
		if !bytes.Equal(page, zero[:len(page)]) {
			if _, err := out.Write(page); err != nil {
				return nil, fmt.Errorf("write memory of template: %w", err)
			}
			if last := len(extents) - 1; last >= 0 && extents[last].Off+extents[last].N == off {
				extents[last].N += int64(len(page))
			} else {
				extents = append(extents, extent{off, int64(len(page))})
			}
		}
		b, off = b[len(page):], off+int64(len(page))
	}
	return extents, nil
}

// unpackMemory puts packed pages where they belong.
func unpackMemory(packed *os.File, extents []extent, memory *os.File) (err error) {
	var total int64
	for _, e := range extents {
		total += e.N
	}
	if total == 0 {
		return errors.New("saved machine has no memory")
	}
	data, unmap, err := mapFile(packed, int(total))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmap()) }()
	// Two halves at a time: a copy is bound by page allocation.
	var g errgroup.Group
	g.SetLimit(2)
	const share = 8 << 20
	var batch []extent
	var at, from, n int64
	flush := func() {
		work, src := batch, data[from:from+n]
		g.Go(func() error { return writeExtents(memory, work, src) })
		batch, from, n = nil, at, 0
	}
	for _, e := range extents {
		batch = append(batch, e)
		at, n = at+e.N, n+e.N
		if n >= share {
			flush()
		}
	}
	flush()
	return g.Wait()
}

func writeExtents(memory *os.File, extents []extent, data []byte) error {
	for _, e := range extents {
		if _, err := memory.WriteAt(data[:e.N], e.Off); err != nil {
			return fmt.Errorf("fill memory of clone: %w", err)
		}
		data = data[e.N:]
	}
	return nil
}
