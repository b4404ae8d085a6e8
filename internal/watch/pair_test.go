// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/binary"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

func inotifyRecord(wd int32, mask, cookie uint32, name string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(wd))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, cookie)
	padded := append([]byte(name), make([]byte, 16-len(name)%16)...)
	if name == "" {
		padded = nil
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(len(padded)))
	return append(b, padded...)
}

// events decodes, translates and pairs; the watch descriptor is the ID.
func events(t *testing.T, records ...[]byte) []Event {
	t.Helper()
	var p pairer
	for _, r := range records {
		all, err := decodeInotify(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if h, ok := e.translate(ID(e.wd)); ok {
				p.add(h)
			}
		}
	}
	return p.take()
}

func TestEventsOfOneNameAreMergedUntilItGoes(t *testing.T) {
	got := events(t,
		inotifyRecord(1, inCreate, 0, "a"), inotifyRecord(1, inModify, 0, "a"), inotifyRecord(1, inCloseWrite, 0, "a"),
		inotifyRecord(1, inDelete, 0, "a"), inotifyRecord(1, inCreate|inIsDir, 0, "a"), inotifyRecord(2, inAttrib, 0, "a"),
		inotifyRecord(2, inAttrib, 0, ""))
	want := []Event{
		{Dir: 1, Name: "a", Op: Create | Modify | Close},
		{Dir: 1, Name: "a", Op: Remove},
		{Dir: 1, Name: "a", Op: Create, IsDir: true},
		{Dir: 2, Name: "a", Op: Attrib},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheEndsOfARenameArePairedByCookie(t *testing.T) {
	got := events(t,
		inotifyRecord(1, inMovedFrom, 7, "a"), inotifyRecord(1, inModify, 0, "x"),
		inotifyRecord(1, inMovedFrom, 8, "b"), inotifyRecord(2, inMovedTo, 7, "c"),
		inotifyRecord(2, inMovedTo, 9, "d"))
	want := []Event{
		{Dir: 1, Name: "x", Op: Modify},
		{Dir: 1, Name: "b", Op: Remove},
		{Dir: 1, Name: "a", Op: Rename, ToDir: 2, To: "c"},
		{Dir: 2, Name: "d", Op: Create},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedInotifyRecordsAreRefused(t *testing.T) {
	whole := inotifyRecord(1, inCreate, 0, "name")
	for n := 1; n < len(whole); n++ {
		if _, err := decodeInotify(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(whole))
		}
	}
}

// extended makes FILE_NOTIFY_EXTENDED_INFORMATION records.
func extended(records ...notifyRecord) []byte {
	var out []byte
	for i, r := range records {
		b := make([]byte, extendedHeader)
		binary.LittleEndian.PutUint32(b[4:], r.action)
		binary.LittleEndian.PutUint32(b[56:], r.attrs)
		binary.LittleEndian.PutUint64(b[64:], r.fileID)
		for _, u := range utf16.Encode([]rune(r.name)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		binary.LittleEndian.PutUint32(b[80:], uint32(len(b)-extendedHeader))
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		if i < len(records)-1 {
			binary.LittleEndian.PutUint32(b, uint32(len(b)))
		}
		out = append(out, b...)
	}
	return out
}

func TestWindowsRecordsAreDecodedAndPaired(t *testing.T) {
	b := extended(
		notifyRecord{action: actionAdded, attrs: attrDirectory, name: `sub\dir`},
		notifyRecord{action: actionOldName, fileID: 5, name: `sub\ä`},
		notifyRecord{action: actionNewName, fileID: 5, name: `b`},
		notifyRecord{action: actionModified, name: `b`},
		notifyRecord{action: actionRemoved, name: `c`})
	records, err := decodeExtended(b)
	if err != nil {
		t.Fatal(err)
	}
	var p pairer
	for _, r := range records {
		if h, ok := r.translate(); ok {
			p.add(h)
		}
	}
	want := []Event{
		{Name: "sub/dir", Op: Create, IsDir: true},
		{Name: "sub/ä", Op: Rename, To: "b"},
		{Name: "b", Op: Modify | Close | Attrib},
		{Name: "c", Op: Remove},
	}
	if diff := cmp.Diff(want, p.take()); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(inotifyRecord(1, inCreate, 0, "name"))
	f.Add(extended(notifyRecord{action: actionAdded, name: "a"}, notifyRecord{action: actionRemoved, name: "b"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range must(decodeInotify(b)) {
			if len(e.name) > len(b) {
				t.Error("a name longer than the input")
			}
		}
		for _, r := range must(decodeExtended(b)) {
			if len(r.name) > 3*len(b) {
				t.Error("a name longer than the input")
			}
		}
	})
}

// must drops the error: what was decoded before it counts.
func must[T any](all []T, _ error) []T { return all }
