// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// Actions and attributes of FILE_NOTIFY_EXTENDED_INFORMATION.
const (
	actionAdded    = 1
	actionRemoved  = 2
	actionModified = 3
	actionOldName  = 4
	actionNewName  = 5
	attrDirectory  = 0x10
	// extendedHeader is the record's size without its name.
	extendedHeader = 84
)

// notifyRecord is one FILE_NOTIFY_EXTENDED_INFORMATION.
type notifyRecord struct {
	action uint32
	attrs  uint32
	fileID uint64
	// name is the path below the root, with slashes.
	name string
}

// decodeExtended splits what ReadDirectoryChangesExW filled.
func decodeExtended(b []byte) ([]notifyRecord, error) {
	var out []notifyRecord
	for len(b) > 0 {
		if len(b) < extendedHeader {
			return out, errMalformed
		}
		next := binary.LittleEndian.Uint32(b)
		size := binary.LittleEndian.Uint32(b[80:])
		if uint64(size) > uint64(len(b)-extendedHeader) || size%2 != 0 {
			return out, errMalformed
		}
		out = append(out, notifyRecord{
			action: binary.LittleEndian.Uint32(b[4:]),
			attrs:  binary.LittleEndian.Uint32(b[56:]),
			fileID: binary.LittleEndian.Uint64(b[64:]),
			name:   decodeName(b[extendedHeader : extendedHeader+int(size)]),
		})
		if next == 0 {
			break
		}
		if next < extendedHeader || uint64(next) > uint64(len(b)) {
			return out, errMalformed
		}
		b = b[next:]
	}
	return out, nil
}

func decodeName(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return strings.ReplaceAll(string(utf16.Decode(units)), `\`, "/")
}

// translate makes a half of a record. The two ends of a rename carry the
// file's ID, of which the low half does as a cookie. Windows does not tell
// changed contents from changed attributes, nor when a writer closes.
func (r notifyRecord) translate() (half, bool) {
	h := half{Event: Event{Name: r.name, IsDir: r.attrs&attrDirectory != 0}, cookie: uint32(r.fileID)}
	switch r.action {
	case actionAdded:
		h.Op = Create
	case actionRemoved:
		h.Op = Remove
	case actionModified:
		h.Op = Modify | Close | Attrib
	case actionOldName:
		h.from, h.Op = true, Remove
	case actionNewName:
		h.to, h.Op = true, Create
	}
	return h, h.Op != 0 && r.name != ""
}
