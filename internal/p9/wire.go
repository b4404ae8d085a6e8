// SPDX-License-Identifier: Apache-2.0

package p9

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is the error of every frame that does not hold what its type
// asks for.
var ErrMalformed = errors.New("malformed 9P message")

// Message is a request or reply. The set is closed: only this package has any.
type Message interface {
	// Type returns the message's type byte.
	Type() Type
	encode(b []byte) []byte
	decode(d *decoder)
}

// Header takes the header of a frame apart. b holds at least [HeaderSize]
// bytes.
func Header(b []byte) (size uint32, typ Type, tag uint16) {
	return binary.LittleEndian.Uint32(b), Type(b[4]), binary.LittleEndian.Uint16(b[5:])
}

// AppendFrame appends m as a frame with the given tag.
func AppendFrame(b []byte, tag uint16, m Message) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, byte(m.Type()), byte(tag), byte(tag>>8))
	b = m.encode(b)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// PutReadHeader fills the first [ReadHeaderSize] bytes of b, which already
// holds n bytes of data behind them, so that b is an Rread frame.
func PutReadHeader(b []byte, tag uint16, n int) {
	binary.LittleEndian.PutUint32(b, uint32(ReadHeaderSize+n))
	b[4] = byte(TypeRread)
	binary.LittleEndian.PutUint16(b[5:], tag)
	binary.LittleEndian.PutUint32(b[7:], uint32(n))
}

// Decode fills m from the body of a frame. Byte slices in m alias body. What
// follows the last field is an error, except for fields that later versions
// of a message lack.
func Decode(body []byte, m Message) error {
	d := decoder{b: body}
	m.decode(&d)
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w: %s of %d bytes", ErrMalformed, m.Type(), len(body))
	}
	return nil
}

// decoder takes fields off the front of b. After the first that is not whole
// it is bad and returns zero values.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) str() string { return string(d.take(int(d.u16()))) }

// data returns count[4] bytes that alias the frame.
func (d *decoder) data() []byte {
	n := d.u32()
	if uint64(n) > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) qid() QID {
	return QID{Type: d.u8(), Version: d.u32(), Path: d.u64()}
}

func (d *decoder) time() Time {
	return Time{Sec: int64(d.u64()), Nsec: int64(d.u64())}
}

func put16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// putStr cuts a string at the 64 KiB that its length field can say; names and
// targets are bounded far below that by those who make messages.
func putStr(b []byte, s string) []byte {
	s = s[:min(len(s), 0xffff)]
	return append(put16(b, uint16(len(s))), s...)
}

func putData(b, data []byte) []byte {
	return append(put32(b, uint32(len(data))), data...)
}

func putQID(b []byte, q QID) []byte {
	return put64(put32(append(b, q.Type), q.Version), q.Path)
}

func putTime(b []byte, t Time) []byte {
	return put64(put64(b, uint64(t.Sec)), uint64(t.Nsec))
}
