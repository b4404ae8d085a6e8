// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"io"
)

// ErrDetached is what reading input ends with when the detach keys were typed.
var ErrDetached = errors.New("detached by the client's keys")

// HasStdin says whether the process has standard input.
func (h *Hub) HasStdin() bool { return h.stdin != nil }

// WriteStdin writes to the process's standard input. It waits until the process
// has taken what it was given before, or the hub is closed. It may be called
// before the process starts.
func (h *Hub) WriteStdin(p []byte) (int, error) {
	if h.stdin == nil {
		return len(p), nil
	}
	return h.stdin.Write(p)
}

// CopyStdin copies a client's input until its end, or until the keys given were
// typed one after the other: then it returns ErrDetached. Nil means the end of
// the client's input.
func (h *Hub) CopyStdin(r io.Reader, keys []byte) error {
	buf := make([]byte, 32<<10)
	d := detector{keys: keys}
	for {
		n, err := r.Read(buf)
		if n > 0 {
			out, detached := d.filter(buf[:n])
			if _, werr := h.WriteStdin(out); werr != nil {
				return werr
			}
			if detached {
				return ErrDetached
			}
		}
		if errors.Is(err, io.EOF) {
			_, err := h.WriteStdin(d.rest())
			return err
		}
		if err != nil {
			return err
		}
	}
}

// detector finds a sequence of keys in input. Keys that may start the sequence
// are held back until it is clear.
type detector struct {
	keys []byte
	seen int
}

// filter returns what goes to the process and whether the sequence is complete.
func (d *detector) filter(p []byte) ([]byte, bool) {
	if len(d.keys) == 0 {
		return p, false
	}
	var out []byte
	for _, b := range p {
		if b == d.keys[d.seen] {
			if d.seen++; d.seen == len(d.keys) {
				d.seen = 0
				return out, true
			}
			continue
		}
		out = append(out, d.rest()...)
		if b == d.keys[0] {
			d.seen = 1
			if len(d.keys) == 1 {
				return out, true
			}
			continue
		}
		out = append(out, b)
	}
	return out, false
}

// rest returns the keys held back.
func (d *detector) rest() []byte {
	held := d.keys[:d.seen]
	d.seen = 0
	return held
}
