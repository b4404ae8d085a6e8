// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// stream is the uncompressed tar of a layer. A goroutine reads ahead of the
// reader, decompressing and hashing; close waits for it. Read, info and close
// are for one goroutine.
type stream struct {
	full  chan []byte
	empty chan []byte
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup

	// cur is the chunk being read, rest what is left of it.
	cur, rest []byte

	// Written by the goroutine before full is closed, read after.
	readErr error
	digest  digest.Digester
	size    int64
}

// Read-ahead: chunks large enough that handing over costs nothing, and few.
const (
	streamChunk  = 256 << 10
	streamChunks = 4
)

// startStream starts reading r, which is used until close returns.
func startStream(r io.Reader) *stream {
	s := &stream{
		full:   make(chan []byte, streamChunks),
		empty:  make(chan []byte, streamChunks),
		stop:   make(chan struct{}),
		digest: digest.Canonical.Digester(),
	}
	for range streamChunks {
		s.empty <- make([]byte, streamChunk)
	}
	s.wg.Go(func() {
		defer close(s.full)
		s.readErr = s.readAhead(r)
	})
	return s
}

func (s *stream) readAhead(r io.Reader) (err error) {
	src := &source{Reader: r}
	defer func() {
		if src.err != nil {
			err = fmt.Errorf("read layer: %w", src.err)
		}
	}()
	d, err := decompress(src)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		var b []byte
		select {
		case b = <-s.empty:
		case <-s.stop:
			return errors.New("given up")
		}
		n, err := io.ReadFull(d, b)
		s.digest.Hash().Write(b[:n])
		s.size += int64(n)
		select {
		case s.full <- b[:n]:
		case <-s.stop:
			return errors.New("given up")
		}
		switch {
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF) && !d.failed():
			return nil
		case err != nil:
			return d.explain(err)
		}
	}
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.cur != nil {
			s.empty <- s.cur[:cap(s.cur)]
			s.cur = nil
		}
		b, ok := <-s.full
		if !ok {
			if s.readErr != nil {
				return 0, s.readErr
			}
			return 0, io.EOF
		}
		s.cur, s.rest = b, b
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// err is why the stream ended early, if it did.
func (s *stream) err() error {
	select {
	case _, ok := <-s.full:
		if !ok {
			return s.readErr
		}
	default:
	}
	return nil
}

// info may be called once Read has returned io.EOF.
func (s *stream) info() Info {
	return Info{DiffID: s.digest.Digest(), TarSize: s.size}
}

func (s *stream) close() {
	s.once.Do(func() { close(s.stop) })
	s.wg.Wait()
}

// source is a reader that remembers its error: one of its own does not make the
// layer a damaged one.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// decompressor is a reader that knows whether its format failed.
type decompressor struct {
	io.Reader
	format string
	err    error
	closed func()
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

func (d *decompressor) failed() bool { return d.err != nil }

func (d *decompressor) explain(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s stream is truncated: %w", ErrFormat, d.format, err)
	}
	return fmt.Errorf("%w: %s stream: %w", ErrFormat, d.format, err)
}

func (d *decompressor) Close() {
	if d.closed != nil {
		d.closed()
	}
}

// decompress goes by the first bytes, as the media types of registries often
// are wrong. A tar cannot start with either magic: its first bytes are a name.
func decompress(r io.Reader) (*decompressor, error) {
	br := bufio.NewReaderSize(r, streamChunk)
	head, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, (&decompressor{format: "gzip"}).explain(err)
		}
		return &decompressor{Reader: z, format: "gzip"}, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, (&decompressor{format: "zstd"}).explain(err)
		}
		return &decompressor{Reader: z, format: "zstd", closed: z.Close}, nil
	}
	return &decompressor{Reader: br, format: "tar"}, nil
}
