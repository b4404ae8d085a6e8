// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Bits of an inotify event's mask, as inotify(7) has them.
const (
	inModify     = 0x2
	inAttrib     = 0x4
	inCloseWrite = 0x8
	inMovedFrom  = 0x40
	inMovedTo    = 0x80
	inCreate     = 0x100
	inDelete     = 0x200
	inUnmount    = 0x2000
	inOverflow   = 0x4000
	inIgnored    = 0x8000
	inOnlyDir    = 0x1000000
	inExclUnlink = 0x4000000
	inIsDir      = 0x40000000
	inotifyMask  = inModify | inAttrib | inCloseWrite | inMovedFrom | inMovedTo | inCreate | inDelete | inOnlyDir | inExclUnlink
)

// inotifyEvent is struct inotify_event.
type inotifyEvent struct {
	wd     int32
	mask   uint32
	cookie uint32
	name   string
}

// inotifyHeader is the size of struct inotify_event without its name.
const inotifyHeader = 16

var errMalformed = errors.New("malformed record")

// decodeInotify splits what was read from an inotify descriptor.
func decodeInotify(b []byte) ([]inotifyEvent, error) {
	var out []inotifyEvent
	for len(b) > 0 {
		if len(b) < inotifyHeader {
			return out, errMalformed
		}
		size := binary.NativeEndian.Uint32(b[12:])
		if uint64(size) > uint64(len(b)-inotifyHeader) {
			return out, errMalformed
		}
		name := b[inotifyHeader : inotifyHeader+int(size)]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		out = append(out, inotifyEvent{
			wd:     int32(binary.NativeEndian.Uint32(b)),
			mask:   binary.NativeEndian.Uint32(b[4:]),
			cookie: binary.NativeEndian.Uint32(b[8:]),
			name:   string(name),
		})
		b = b[inotifyHeader+int(size):]
	}
	return out, nil
}

// inotifyOps are the bits that translate one to one.
var inotifyOps = []struct {
	mask uint32
	op   Op
}{
	{inCreate, Create}, {inDelete, Remove}, {inModify, Modify}, {inCloseWrite, Close}, {inAttrib, Attrib},
}

// half is one end of a rename, or an event that is whole.
type half struct {
	Event
	// from and to say which end it is; cookie is what the ends share.
	from, to bool
	cookie   uint32
}

// translate makes halves of an event of the directory dir. An event of the
// directory itself, which its parent tells of too, is none.
func (e inotifyEvent) translate(dir ID) (half, bool) {
	h := half{Event: Event{Dir: dir, Name: e.name, IsDir: e.mask&inIsDir != 0}, cookie: e.cookie}
	if e.name == "" {
		return h, false
	}
	switch {
	case e.mask&inMovedFrom != 0:
		h.from, h.Op = true, Remove
	case e.mask&inMovedTo != 0:
		h.to, h.Op = true, Create
	default:
		for _, o := range inotifyOps {
			if e.mask&o.mask != 0 {
				h.Op |= o.op
			}
		}
	}
	return h, h.Op != 0
}
