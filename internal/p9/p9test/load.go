// SPDX-License-Identifier: Apache-2.0

package p9test

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
)

// WalkGetattrClunk keeps depth requests in flight: a batch that walks to a
// file, one that asks for its attributes, one that clunks. It uses the fids
// from base on, and returns how many requests it made.
func WalkGetattrClunk(b *p9client.Batch, name string, base uint32, depth int) (int, error) {
	names := []string{name}
	for _, request := range []func(fid uint32) p9.Message{
		func(fid uint32) p9.Message { return &p9.Twalk{NewFID: fid, Names: names} },
		func(fid uint32) p9.Message { return &p9.Tgetattr{FID: fid, Mask: p9.AttrBasic} },
		func(fid uint32) p9.Message { return &p9.Tclunk{FID: fid} },
	} {
		for i := range depth {
			b.Add(uint16(i), request(base+uint32(i)))
		}
		if err := b.Exchange(depth); err != nil {
			return 0, err
		}
	}
	return 3 * depth, nil
}

// SmallFiles makes n files below the root, each with a few bytes, and removes
// them, one request at a time. It uses fid base and returns how many requests
// it made.
func SmallFiles(b *p9client.Batch, base uint32, n int) (int, error) {
	for range n {
		for _, m := range []p9.Message{
			&p9.Twalk{NewFID: base},
			&p9.Tlcreate{FID: base, Name: "small", Flags: linux.OWronly | linux.OCreate | linux.OExcl, Mode: 0o644},
			&p9.Twrite{FID: base, Data: []byte("123456789\n")},
			&p9.Tremove{FID: base},
		} {
			b.Add(1, m)
			if err := b.Exchange(1); err != nil {
				return 0, err
			}
		}
	}
	return 4 * n, nil
}

// OpenForReading opens a file as fid 1, for [Read1M].
func OpenForReading(b *p9client.Batch, name string) error {
	b.Add(1, &p9.Twalk{NewFID: 1, Names: []string{name}})
	if err := b.Exchange(1); err != nil {
		return err
	}
	b.Add(1, &p9.Tlopen{FID: 1})
	return b.Exchange(1)
}

// Read1M reads the first mebibyte of the open file, depth times, in as few
// messages as the session allows, all at once.
func Read1M(b *p9client.Batch, depth int) error {
	const size = 1 << 20
	step := min(b.Msize()-p9.IOHeaderSize, size)
	n := 0
	for range depth {
		for off := uint32(0); off < size; off += step {
			b.Add(uint16(n), &p9.Tread{FID: 1, Offset: uint64(off), Count: min(step, size-off)})
			n++
		}
	}
	return b.Exchange(n)
}
