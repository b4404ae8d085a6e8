// SPDX-License-Identifier: Apache-2.0

// Package layer makes ext4 images of image layers and keeps them, one file per
// diffID, shared by every container that uses the layer.
//
// A layer comes as a tar stream, plain or compressed with gzip or zstd. Convert
// reads it once: a goroutine decompresses and hashes, the caller's writes the
// image, no copy of the tar is kept. Between the two a filter (filter.go) makes
// of any layer what the writer of hcsshim's tar2ext4 expects, and refuses what
// a layer must not hold. Equal tars give equal images.
//
// An image is read-only, without a journal and without free space. Removed
// files are overlayfs whiteouts (character devices 0:0), replaced directories
// carry trusted.overlay.opaque. It has no lost+found, because an image is a
// layer's contents and nothing else, and its UUID comes from the diffID, so that
// overlayfs can tell the layers apart and keep inode numbers over a copy-up.
//
// Cache owns a directory of such images. Its lock is held for look-ups and
// renames only, never while an image is made.
package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/opencontainers/go-digest"

	"byre.dev/byre/internal/disk"
)

// MaxImageSize is how large the image of one layer may get. The room for its
// group descriptors, 64 KiB of hole, is kept free in every image.
const MaxImageSize = 256 << 30

// MaxFileSize is how large one file in a layer may be. Beyond 42 GiB the
// writer's second extent block is wrong (compactext4, writeExtents).
const MaxFileSize = 40 << 30

// Errors that a layer itself can cause. They are wrapped with what was wrong.
var (
	// ErrFormat is a stream that is not a whole tar archive.
	ErrFormat = errors.New("damaged layer")
	// ErrEntry is an archive member that no layer may hold, or that
	// contradicts another member.
	ErrEntry = errors.New("unacceptable layer entry")
)

// Info describes an image that Convert made.
type Info struct {
	// DiffID is the digest of the uncompressed tar.
	DiffID digest.Digest
	// TarSize is the length of the uncompressed tar.
	TarSize int64
}

// Convert writes the ext4 image of the layer that r holds to the empty file f.
// The stream is read to its end. If Convert fails, f holds rubbish.
//
// A layer in which a file is there twice is refused here; Cache reads it twice.
func Convert(f *os.File, r io.Reader) (Info, error) { return convert(f, r, nil) }

// convert leaves out the members whose numbers are in skip.
func convert(f *os.File, r io.Reader, skip map[int]bool) (Info, error) {
	s := startStream(r)
	defer s.close()

	filter := newFilter(s, skip)
	w := &backer{File: f}
	if err := write(w, filter); err != nil {
		return Info{}, convertError(err, s, filter, w)
	}
	// What follows the archive's end belongs to the diffID all the same.
	if _, err := io.Copy(io.Discard, s); err != nil {
		return Info{}, err
	}
	info := s.info()
	// The UUID is that of the diffID, which is known only now.
	if err := finishImage(f, info.DiffID, filter.lostFound); err != nil {
		return Info{}, fmt.Errorf("finish layer image: %w", err)
	}
	return info, nil
}

// errWriter is a mistake of the writer's: it panics where it finds one.
var errWriter = errors.New("layer image writer failed")

func write(w *backer, r io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errWriter, p, debug.Stack())
		}
	}()
	return tar2ext4.ConvertTarToExt4(r, w, tar2ext4.MaximumDiskSize(MaxImageSize))
}

// convertError finds the cause that a user can act on. The writer gives what it
// read and what it wrote back as errors of its own, without wrapping all of them.
func convertError(err error, s *stream, filter *filter, w *backer) error {
	switch {
	case errors.Is(err, errWriter):
		return err
	case w.err != nil:
		return fmt.Errorf("write layer image: %w", w.err)
	case s.err() != nil:
		return s.err()
	case filter.err != nil:
		return filter.err
	}
	return fmt.Errorf("%w: %w", ErrEntry, err)
}

// backer is the image file. It remembers the first write error, and starts the
// writing back early, so that the sync at the end finds little left to do.
type backer struct {
	*os.File
	err       error
	pos, done int64
}

// writebackStep is how much is written between two hints to write back.
const writebackStep = 8 << 20

func (b *backer) Write(p []byte) (int, error) {
	n, err := b.File.Write(p)
	if err != nil && b.err == nil {
		b.err = err
	}
	b.pos += int64(n)
	if b.pos-b.done >= writebackStep {
		disk.Writeback(b.File, b.done, b.pos-b.done)
		b.done = b.pos
	}
	return n, err
}

func (b *backer) Seek(off int64, whence int) (int64, error) {
	n, err := b.File.Seek(off, whence)
	b.pos, b.done = n, max(b.done, n)
	return n, err
}
