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

const (
	// pageSize is the guest's.
	pageSize = 4096
	// copyPiece is how much is copied at a time.
	copyPiece = 1 << 20
)

// extent is a run of a file: n bytes at off.
type extent struct{ off, n int64 }

// touched returns the runs of a sparse file that are not holes, in pieces of
// copyPiece at the most.
func touched(f *os.File, size int64) ([]extent, error) {
	var all []extent
	for off := int64(0); off < size; {
		start, err := f.Seek(off, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find touched memory: %w", err)
		}
		end, err := f.Seek(start, seekHole)
		if err != nil {
			return nil, fmt.Errorf("find touched memory: %w", err)
		}
		for off = start; off < end; off += copyPiece {
			all = append(all, extent{off, min(copyPiece, end-off)})
		}
		off = end
	}
	return all, nil
}

// copyMemory writes the pages of a memory file that are not zero to the same
// places of another, which is sized already.
func copyMemory(to, from *os.File, size int64) error {
	extents, err := touched(from, size)
	if err != nil {
		return err
	}
	// Two at a time: a copy is bound by page allocation, half of it by each
	// file.
	const workers = 2
	var g errgroup.Group
	for w := range workers {
		g.Go(func() error {
			buf := make([]byte, copyPiece)
			for i := w; i < len(extents); i += workers {
				b := buf[:extents[i].n]
				if _, err := from.ReadAt(b, extents[i].off); err != nil && !errors.Is(err, io.EOF) {
					return fmt.Errorf("read memory: %w", err)
				}
				if err := writePages(to, b, extents[i].off); err != nil {
					return fmt.Errorf("write memory: %w", err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// writePages writes the runs of pages of b that are not zero.
func writePages(to *os.File, b []byte, off int64) error {
	for len(b) > 0 {
		n, zero := pageRun(b)
		if !zero {
			if _, err := to.WriteAt(b[:n], off); err != nil {
				return err
			}
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

var zeroPage [pageSize]byte

// pageRun returns the length of the run of pages at the start of b that are
// all zero, or all not.
func pageRun(b []byte) (n int, zero bool) {
	for n < len(b) {
		page := b[n:min(n+pageSize, len(b))]
		z := bytes.Equal(page, zeroPage[:len(page)])
		if n > 0 && z != zero {
			break
		}
		zero = z
		n += len(page)
	}
	return n, zero
}
