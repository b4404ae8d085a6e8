// SPDX-License-Identifier: Apache-2.0

package p9_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/p9"
)

// filled returns one message of every type with every field set to something
// that is not zero.
func filled() []p9.Message {
	var all []p9.Message
	for t := range 256 {
		if m := p9.New(p9.Type(t)); m != nil {
			n := byte(t)
			fill(reflect.ValueOf(m).Elem(), &n)
			all = append(all, m)
		}
	}
	return all
}

func fill(v reflect.Value, n *byte) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.String:
		v.SetString(strings.Repeat(string(rune('a'+*n%26)), int(*n%9)+1))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(v.Index(i), n)
		}
	case reflect.Int64:
		v.SetInt(-int64(*n) << 33)
	default:
		v.SetUint(uint64(*n) << (v.Type().Bits() - 8))
	}
}

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	all := filled()
	if len(all) != 73 {
		t.Fatalf("%d message types, want 73", len(all))
	}
	for _, m := range all {
		frame := p9.AppendFrame(nil, 0x1234, m)
		size, typ, tag := p9.Header(frame)
		if int(size) != len(frame) || typ != m.Type() || tag != 0x1234 {
			t.Errorf("%s: header %d %s %#x of %d bytes", m.Type(), size, typ, tag, len(frame))
		}
		got := p9.New(typ)
		if err := p9.Decode(frame[p9.HeaderSize:], got); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Errorf("%s (-sent +received):\n%s", typ, d)
		}
	}
}

func TestCutMessagesAreRefused(t *testing.T) {
	for _, m := range filled() {
		body := p9.AppendFrame(nil, 1, m)[p9.HeaderSize:]
		for n := range len(body) {
			if m.Type() == p9.TypeTfsync && n == 4 {
				continue // old clients leave the second field out
			}
			if err := p9.Decode(body[:n], p9.New(m.Type())); !errors.Is(err, p9.ErrMalformed) {
				t.Errorf("%s cut to %d of %d bytes: %v", m.Type(), n, len(body), err)
			}
		}
		if err := p9.Decode(append(body, 0), p9.New(m.Type())); !errors.Is(err, p9.ErrMalformed) {
			t.Errorf("%s with a byte too many: %v", m.Type(), err)
		}
	}
}

// The bytes are written out from the table of the protocol.
func TestKnownFrames(t *testing.T) {
	for _, c := range []struct {
		frame string
		want  p9.Message
	}{
		{"\x15\x00\x00\x00\x64\xff\xff\x00\x00\x10\x00\x08\x009P2000.L",
			&p9.Tversion{Msize: 1 << 20, Version: "9P2000.L"}},
		{"\x18\x00\x00\x00\x6e\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x05\x00hello",
			&p9.Twalk{NewFID: 1, Names: []string{"hello"}}},
		{"\x0f\x00\x00\x00\x0c\x02\x00\x01\x00\x00\x00\x02\x80\x00\x00",
			&p9.Tlopen{FID: 1, Flags: 0o100002}},
	} {
		if got := p9.AppendFrame(nil, binary.LittleEndian.Uint16([]byte(c.frame[5:])), c.want); string(got) != c.frame {
			t.Errorf("%s = %q, want %q", c.want.Type(), got, c.frame)
		}
	}
}

func TestReadHeaderMakesAnRread(t *testing.T) {
	want := p9.AppendFrame(nil, 7, &p9.Rread{Data: []byte("data")})
	got := append(make([]byte, p9.ReadHeaderSize), "data"...)
	p9.PutReadHeader(got, 7, 4)
	if !bytes.Equal(got, want) {
		t.Errorf("frame = %q, want %q", got, want)
	}
}

func TestTypesHaveTheirNames(t *testing.T) {
	for typ, want := range map[p9.Type]string{
		p9.TypeTwalk: "Twalk", p9.TypeRgetattr: "Rgetattr", p9.TypeRlerror: "Rlerror",
		p9.TypeRxattrcreate: "Rxattrcreate", p9.TypeRtmpfile: "Rtmpfile", 250: "message 250", 6: "message 6",
	} {
		if got := typ.String(); got != want {
			t.Errorf("type %d is %q, want %q", typ, got, want)
		}
	}
	for _, m := range filled() {
		if got := reflect.TypeOf(m).Elem().Name(); got != m.Type().String() {
			t.Errorf("%s calls itself %s", got, m.Type())
		}
	}
}

func TestDirentsSurviveTheWire(t *testing.T) {
	list := []p9.Dirent{
		{QID: p9.QID{Type: p9.QTDir, Version: 1, Path: 2}, Offset: 3, Type: 4, Name: "."},
		{QID: p9.QID{Path: 1 << 63}, Offset: 1<<63 - 1, Type: 8, Name: strings.Repeat("n", 255)},
	}
	var b []byte
	for i := range list {
		before := len(b)
		b = p9.AppendDirent(b, &list[i])
		if len(b)-before != list[i].Size() {
			t.Errorf("entry takes %d bytes, says %d", len(b)-before, list[i].Size())
		}
	}
	got, err := p9.ParseDirents(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(list, got); d != "" {
		t.Error(d)
	}
	if _, err := p9.ParseDirents(b[:len(b)-1]); err == nil {
		t.Error("a cut list is taken")
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range filled() {
		frame := p9.AppendFrame(nil, 1, m)
		f.Add(byte(m.Type()), frame[p9.HeaderSize:])
	}
	f.Add(byte(p9.TypeTwalk), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Add(byte(p9.TypeRread), []byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		m := p9.New(p9.Type(typ))
		if m == nil {
			return
		}
		if err := p9.Decode(body, m); err != nil {
			return
		}
		again := p9.AppendFrame(nil, 9, m)[p9.HeaderSize:]
		if typ == byte(p9.TypeTfsync) && len(body) == 4 {
			return
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("%s decodes from %q and encodes to %q", m.Type(), body, again)
		}
	})
}

func TestDecodingDoesNotOverAllocate(t *testing.T) {
	hostile := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00" + strings.Repeat("\xff\xff", 16))
	for typ := range 256 {
		m := p9.New(p9.Type(typ))
		if m == nil {
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			p9.Decode(hostile, m)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / 100; n > 16<<10 {
			t.Errorf("%s: %d bytes allocated for a frame of %d", m.Type(), n, len(hostile))
		}
	}
}

func BenchmarkWalkRoundTrip(b *testing.B) {
	var buf []byte
	in := &p9.Twalk{FID: 1, NewFID: 2, Names: []string{"some", "path"}}
	out := new(p9.Twalk)
	b.ReportAllocs()
	for b.Loop() {
		buf = p9.AppendFrame(buf[:0], 1, in)
		if err := p9.Decode(buf[p9.HeaderSize:], out); err != nil {
			b.Fatal(err)
		}
	}
}
