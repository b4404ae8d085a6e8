// SPDX-License-Identifier: Apache-2.0

//go:build unix

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func markSparse(*os.File) error { return nil }

// nextData finds the next allocated range at or after off. A file system that
// cannot tell has one range, up to size.
func nextData(f *os.File, off, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		return off, size, nil
	case err != nil:
		return 0, 0, fmt.Errorf("find data: %w", err)
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("find hole: %w", err)
	}
	return start, min(end, size), nil
}

func allocated(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	// st_blocks counts 512 bytes whatever the block size is.
	return int64(st.Blocks) * 512, nil
}

// usage returns what a file takes, and its identity.
func usage(_ string, d fs.DirEntry) (int64, fileID, error) {
	info, err := d.Info()
	if err != nil {
		return 0, fileID{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fileID{}, errors.ErrUnsupported
	}
	var id fileID
	if st.Nlink > 1 {
		id = fileID{volume: uint64(st.Dev), index: st.Ino}
	}
	return st.Blocks * 512, id, nil
}

// unsupported joins errors.ErrUnsupported to what file systems without holes answer.
func unsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}
