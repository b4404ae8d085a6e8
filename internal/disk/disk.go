// SPDX-License-Identifier: Apache-2.0

// Package disk makes and copies disk files: raw images, mostly holes, that a
// machine sees as SCSI disks.
//
// Clone copies a disk with as little work as the file system allows: a shared
// copy of its blocks where there is one (btrfs, XFS, APFS), else the allocated
// ranges only. Holes stay holes, so that a scratch disk of many gigabytes costs
// what was written to it. Allocated tells that cost. Punch gives a range back.
//
// The three of them work on Linux, macOS and Windows (NTFS sparse files). On a
// file system without holes the copies are right and full-sized.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// chunk is the unit of copying and the smallest run of zeros that is left out
// where the file system cannot tell where the holes are.
const chunk = 64 << 10

// Create makes a disk file at path, all of it a hole of size bytes. It fails
// if the path exists.
func Create(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = finish(f, err) }()
	if err := markSparse(f); err != nil {
		return fmt.Errorf("make %s sparse: %w", path, err)
	}
	return f.Truncate(size)
}

// Clone copies the disk file src to the new file dst, sharing blocks or leaving
// holes where it can, and extends it to size bytes if it is shorter. It fails
// if dst exists; if it fails later, dst does not stay behind.
func Clone(dst, src string, size int64) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = finish(out, err) }()

	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := copySparse(out, in, st.Size()); err != nil {
		return fmt.Errorf("copy disk %s to %s: %w", src, dst, err)
	}
	return out.Truncate(max(st.Size(), size))
}

// finish closes a file that is being made and removes it after an error.
func finish(f *os.File, err error) error {
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// copySparse copies size bytes of in to the empty file out.
func copySparse(out, in *os.File, size int64) error {
	if err := shareBlocks(out, in, size); err == nil {
		return nil
	}
	if err := markSparse(out); err != nil {
		return err
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		start, end, err := nextData(in, off, size)
		if err != nil || start >= size {
			return err
		}
		if err := copyRange(out, in, start, end-start); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// copyNonZero copies a range by reading it and leaves blocks of zeros as holes.
func copyNonZero(out, in *os.File, off, n int64) error {
	buf := make([]byte, chunk)
	for n > 0 {
		b := buf[:min(n, chunk)]
		if _, err := io.ReadFull(io.NewSectionReader(in, off, int64(len(b))), b); err != nil {
			return err
		}
		if !zero(b) {
			if _, err := out.WriteAt(b, off); err != nil {
				return err
			}
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// zero reports whether b holds zeros only.
func zero(b []byte) bool {
	for len(b) >= 8 {
		if b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Punch makes n bytes at off a hole, which read as zeros and take no space. The
// size of the file stays. Where the file system has no holes the error wraps
// [errors.ErrUnsupported] and the contents are unchanged.
func Punch(f *os.File, off, n int64) error {
	if err := punch(f, off, n); err != nil {
		return fmt.Errorf("punch hole in %s: %w", f.Name(), err)
	}
	return nil
}

// Allocated returns how many bytes of storage the file at path takes, holes not
// counted. Blocks shared with a clone are counted in each.
func Allocated(path string) (int64, error) {
	return allocated(path)
}

// AllocatedIn returns how many bytes of storage the files below dir take, holes
// not counted, a file with several names once, directories themselves not. What
// goes or cannot be read meanwhile counts nothing.
func AllocatedIn(dir string) int64 {
	var total int64
	seen := map[fileID]bool{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		n, id, err := usage(path, d)
		if err != nil || seen[id] {
			return nil
		}
		if id != (fileID{}) {
			seen[id] = true
		}
		total += n
		return nil
	})
	return total
}

// fileID tells files that have several names from each other; it is zero for a
// file with one.
type fileID struct{ volume, index uint64 }

// Writeback asks the operating system to start writing what has been written to
// a range of f, without waiting: a later Sync then has less to do. It is a hint
// and does nothing where there is no such call.
func Writeback(f *os.File, off, n int64) {
	writeback(f, off, n)
}
