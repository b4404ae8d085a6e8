// SPDX-License-Identifier: Apache-2.0

package p9client

import (
	"errors"
	"fmt"
	"io"

	"byre.dev/byre/internal/p9"
)

// Batch is a client for measurements: it sends many requests in one write and
// takes as many replies, with no goroutine and hardly any memory of its own.
// It is not to be used concurrently.
type Batch struct {
	conn io.ReadWriter
	out  []byte
	in   []byte
	have int
	// last is the first bytes of the last reply's body.
	last []byte
	// sink takes what of large replies is not kept.
	sink  []byte
	msize uint32
}

const (
	// lastSize is how much of a reply is looked at.
	lastSize = 64
	// sinkSize is the size from which a read's reply is not kept.
	sinkSize = 256 << 10
)

// NewBatch begins a session on conn, which stays the caller's, and attaches
// to aname as fid 0, for a numeric user.
func NewBatch(conn io.ReadWriter, aname string, uid uint32) (*Batch, error) {
	b := &Batch{conn: conn, in: make([]byte, 2*p9.MaxMsize)}
	b.Add(p9.NoTag, &p9.Tversion{Msize: p9.MaxMsize, Version: p9.Version})
	if err := b.Exchange(1); err != nil {
		return nil, fmt.Errorf("negotiate 9P version: %w", err)
	}
	var r p9.Rversion
	if err := p9.Decode(b.last, &r); err != nil {
		return nil, fmt.Errorf("negotiate 9P version: %w", err)
	}
	b.msize = min(r.Msize, p9.MaxMsize)
	b.Add(1, &p9.Tattach{AFID: p9.NoFID, Uname: "root", Aname: aname, NUname: uid})
	if err := b.Exchange(1); err != nil {
		return nil, fmt.Errorf("attach to %q: %w", aname, err)
	}
	return b, nil
}

// Msize returns the agreed frame size.
func (b *Batch) Msize() uint32 { return b.msize }

// Add adds a request to those to be sent.
func (b *Batch) Add(tag uint16, m p9.Message) { b.out = p9.AppendFrame(b.out, tag, m) }

// Exchange sends what was added and takes n replies. An Rlerror among them is
// an error, as is what is no frame.
func (b *Batch) Exchange(n int) error {
	if _, err := b.conn.Write(b.out); err != nil {
		return err
	}
	b.out = b.out[:0]
	at := 0
	for ; n > 0; n-- {
		for !b.whole(at) {
			if at > 0 {
				b.have = copy(b.in, b.in[at:b.have])
				at = 0
			}
			m, err := b.conn.Read(b.in[b.have:])
			if err != nil {
				return err
			}
			b.have += m
		}
		size, err := b.check(at)
		if err != nil {
			return err
		}
		if at += size; at > b.have {
			if err := b.discard(at - b.have); err != nil {
				return err
			}
			at, b.have = 0, 0
		}
	}
	b.have = copy(b.in, b.in[at:b.have])
	return nil
}

// discard reads what is left of a large reply. Its bytes are taken and not
// kept, so that what is measured is the server.
func (b *Batch) discard(n int) error {
	if b.sink == nil {
		b.sink = make([]byte, sinkSize)
	}
	for n > 0 {
		m, err := b.conn.Read(b.sink[:min(n, len(b.sink))])
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// whole says whether as much of the frame at an offset is there as is looked
// at, or it can never be.
func (b *Batch) whole(at int) bool {
	if b.have-at < p9.HeaderSize {
		return false
	}
	size, typ, _ := p9.Header(b.in[at:])
	if typ == p9.TypeRread && size >= sinkSize {
		return b.have-at >= lastSize
	}
	return uint64(size) <= uint64(b.have-at) || uint64(size) > uint64(len(b.in))
}

func (b *Batch) check(at int) (int, error) {
	size, typ, _ := p9.Header(b.in[at:])
	if size < p9.HeaderSize || uint64(size) > uint64(len(b.in)) {
		return 0, errors.New("reply of an impossible size")
	}
	b.last = append(b.last[:0], b.in[at+p9.HeaderSize:at+min(int(size), lastSize)]...)
	if typ != p9.TypeRlerror {
		return int(size), nil
	}
	var r p9.Rlerror
	if err := p9.Decode(b.in[at+p9.HeaderSize:at+int(size)], &r); err != nil {
		return 0, err
	}
	return 0, r.Ecode
}
