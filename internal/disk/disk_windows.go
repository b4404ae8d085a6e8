// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

const (
	fsctlSetSparse            = 0x000900c4
	fsctlSetZeroData          = 0x000980c8
	fsctlQueryAllocatedRanges = 0x000940cf
)

// shareBlocks would be FSCTL_DUPLICATE_EXTENTS_TO_FILE, which only ReFS has.
func shareBlocks(_, _ *os.File, _ int64) error { return errors.ErrUnsupported }

func copyRange(out, in *os.File, off, n int64) error { return copyNonZero(out, in, off, n) }

func writeback(*os.File, int64, int64) {}

// markSparse lets a file have holes. FAT and exFAT have none: the file is then
// a full one, which is right and larger.
func markSparse(f *os.File) error {
	_, err := ioctl(f, fsctlSetSparse, nil, nil)
	if errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED) {
		return nil
	}
	return err
}

func punch(f *os.File, off, n int64) error {
	if err := markSparse(f); err != nil {
		return err
	}
	in := binary.LittleEndian.AppendUint64(nil, uint64(off))
	in = binary.LittleEndian.AppendUint64(in, uint64(off+n))
	_, err := ioctl(f, fsctlSetZeroData, in, nil)
	if errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// nextData asks NTFS for the first allocated range at or after off.
func nextData(f *os.File, off, size int64) (start, end int64, err error) {
	in := binary.LittleEndian.AppendUint64(nil, uint64(off))
	in = binary.LittleEndian.AppendUint64(in, uint64(size-off))
	var out [16]byte
	n, err := ioctl(f, fsctlQueryAllocatedRanges, in, out[:])
	switch {
	case errors.Is(err, windows.ERROR_MORE_DATA):
	case errors.Is(err, windows.ERROR_INVALID_FUNCTION), errors.Is(err, windows.ERROR_NOT_SUPPORTED):
		return off, size, nil
	case err != nil:
		return 0, 0, fmt.Errorf("find data: %w", err)
	}
	if n < len(out) {
		return size, size, nil
	}
	start = int64(binary.LittleEndian.Uint64(out[0:]))
	return start, min(size, start+int64(binary.LittleEndian.Uint64(out[8:]))), nil
}

func ioctl(f *os.File, code uint32, in, out []byte) (int, error) {
	var inp, outp *byte
	if len(in) > 0 {
		inp = &in[0]
	}
	if len(out) > 0 {
		outp = &out[0]
	}
	var n uint32
	err := windows.DeviceIoControl(windows.Handle(f.Fd()), code, inp, uint32(len(in)), outp, uint32(len(out)), &n, nil)
	return int(n), err
}

// usage returns what a file takes, and its identity.
func usage(path string, _ fs.DirEntry) (int64, fileID, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fileID{}, err
	}
	defer f.Close()
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return 0, fileID{}, &os.PathError{Op: "GetFileInformationByHandle", Path: path, Err: err}
	}
	var id fileID
	if info.NumberOfLinks > 1 {
		id = fileID{volume: uint64(info.VolumeSerialNumber), index: uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)}
	}
	n, err := allocatedOf(f)
	return n, id, err
}

// allocated sums the allocated ranges: the same number GetCompressedFileSize
// gives, without a call that x/sys lacks.
func allocated(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return allocatedOf(f)
}

func allocatedOf(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var sum int64
	for off := int64(0); off < st.Size(); {
		start, end, err := nextData(f, off, st.Size())
		if err != nil {
			return 0, err
		}
		sum, off = sum+end-start, max(end, off+1)
	}
	return sum, nil
}
