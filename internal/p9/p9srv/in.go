// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"fmt"
	"io"

	"byre.dev/byre/internal/p9"
)

const (
	// inSize is how much input is read at a time.
	inSize = 128 << 10
	// maxRequest bounds every frame but a Twrite: sixteen names of 255 bytes
	// or a link's target of 4096 are far below it.
	maxRequest = 64 << 10
)

// input cuts the stream into frames.
type input struct {
	r          io.Reader
	buf        []byte
	start, end int
}

// whole says whether a whole frame, or its being malformed, can be had
// without reading.
func (in *input) whole() bool {
	b := in.buf[in.start:in.end]
	if len(b) < p9.HeaderSize {
		return false
	}
	size, _, _ := p9.Header(b)
	return uint64(size) <= uint64(len(b))
}

// fill makes at least n bytes be buffered, n at most inSize.
func (in *input) fill(n int) error {
	if in.end-in.start >= n {
		return nil
	}
	if in.start > 0 && (in.start == in.end || in.start+n > len(in.buf)) {
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	for in.end-in.start < n {
		m, err := in.r.Read(in.buf[in.end:])
		in.end += m
		if err != nil && in.end-in.start < n {
			return in.short(err)
		}
	}
	return nil
}

func (in *input) short(err error) error {
	if err == io.EOF && in.end > in.start {
		return io.ErrUnexpectedEOF
	}
	return err
}

// header waits for the next frame's header and checks its size.
func (in *input) header(msize uint32) (size uint32, typ p9.Type, tag uint16, err error) {
	if err = in.fill(p9.HeaderSize); err != nil {
		return 0, 0, 0, err
	}
	size, typ, tag = p9.Header(in.buf[in.start:])
	limit := min(msize, maxRequest)
	if typ == p9.TypeTwrite {
		limit = msize
	}
	if size < p9.HeaderSize || size > limit {
		return 0, 0, 0, fmt.Errorf("%s frame of %d bytes, of which at most %d are taken", typ, size, limit)
	}
	return size, typ, tag, nil
}

// body returns the body of the frame that header saw. It is valid until the
// next call.
func (in *input) body(size uint32) ([]byte, error) {
	if err := in.fill(int(size)); err != nil {
		return nil, err
	}
	b := in.buf[in.start+p9.HeaderSize : in.start+int(size)]
	in.start += int(size)
	return b, nil
}

// copyBody reads the body of the frame that header saw into dst, past the
// buffer where the frame is larger than what is there.
func (in *input) copyBody(dst []byte) error {
	in.start += p9.HeaderSize
	n := copy(dst, in.buf[in.start:in.end])
	in.start += n
	if _, err := io.ReadFull(in.r, dst[n:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}
