// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"strings"
)

// meta is what a sidecar holds of a file. It is not changed once it is in the
// table.
type meta struct {
	// stat holds if hasStat is set.
	stat    stored
	hasStat bool
	// major and minor are a device's numbers.
	major, minor uint32
	// attrs are extended attributes, by the guest's names.
	attrs map[string][]byte
	// missed says that a sweep did not find the file.
	missed bool
	// gone says that the last name was removed; who has the file open still
	// sees what was stored.
	gone bool
}

// size is what the attributes take.
func (m *meta) size() int {
	n := 0
	if m == nil {
		return 0
	}
	for name, v := range m.attrs {
		n += len(name) + len(v)
	}
	return n
}

// record is a change of a file's metadata: a verb and its arguments.
type record struct{ verb, args string }

// Verbs of records.
const (
	// verbStat sets owner and mode: "uid:gid:0mode".
	verbStat = "stat"
	// verbRdev sets device numbers: "major:minor".
	verbRdev = "rdev"
	// verbAttr sets an attribute: its name in hex, its value in base64.
	verbAttr = "attr"
	// verbNone removes one: its name in hex.
	verbNone = "none"
	// verbGone says that the file's last name was removed.
	verbGone = "gone"
	// verbMiss says that a sweep has not found the file.
	verbMiss = "miss"
)

func statRecord(s stored) record { return record{verbStat, s.String()} }

func rdevRecord(major, minor uint32) record {
	return record{verbRdev, fmt.Sprintf("%d:%d", major, minor)}
}

func attrRecord(name string, value []byte) record {
	return record{verbAttr, hex.EncodeToString([]byte(name)) + " " + base64.RawStdEncoding.EncodeToString(value)}
}

func noneRecord(name string) record { return record{verbNone, hex.EncodeToString([]byte(name))} }

// appendLine appends the line of a record: a checksum of what follows, the
// file, the record.
func appendLine(b []byte, id fileID, r record) []byte {
	text := fmt.Sprintf("%x %x %x %s %s", id.dev, id.ino, id.birth, r.verb, r.args)
	return fmt.Appendf(b, "%08x %s\n", crc32.ChecksumIEEE([]byte(text)), text)
}

// parseLine reads a line without its end; false if it is none of ours, as
// after a crash.
func parseLine(line []byte) (id fileID, r record, ok bool) {
	sum, text, _ := bytes.Cut(line, []byte{' '})
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) != string(sum) {
		return id, r, false
	}
	part := strings.SplitN(string(text), " ", 5)
	if len(part) != 5 {
		return id, r, false
	}
	if _, err := fmt.Sscanf(strings.Join(part[:3], " "), "%x %x %x", &id.dev, &id.ino, &id.birth); err != nil {
		return id, r, false
	}
	return id, record{part[3], part[4]}, true
}

// with returns m after r, leaving m as it was. Nil is a file of which nothing
// is known, before and after.
func (m *meta) with(r record) *meta {
	var n meta
	if m != nil && !m.gone {
		n = *m
	}
	n.missed = false
	switch r.verb {
	case verbStat:
		if n.stat, n.hasStat = parseStored(r.args); !n.hasStat {
			return m
		}
	case verbRdev:
		if _, err := fmt.Sscanf(r.args, "%d:%d", &n.major, &n.minor); err != nil {
			return m
		}
	case verbAttr, verbNone:
		return n.withAttr(r, m)
	case verbGone:
		if m != nil {
			n = *m
		}
		n.gone = true
	case verbMiss:
		n.missed = true
	default:
		// A later version's: what it means to say is not ours to lose, but
		// neither can it be kept.
		return m
	}
	return &n
}

// orphaned returns changes as they are to be recorded of m. A file that has lost
// its last name is changed by who has it open: what follows a verbGone alone would
// be of the next file of its number, so what is known is said again, and its end.
func (m *meta) orphaned(changes []record) []record {
	if m == nil || !m.gone || len(changes) == 0 || changes[0].verb == verbGone {
		return changes
	}
	all := append(m.records(), changes...)
	return append(all, record{verb: verbGone})
}

func (n meta) withAttr(r record, old *meta) *meta {
	key, value, _ := strings.Cut(r.args, " ")
	name, err1 := hex.DecodeString(key)
	data, err2 := base64.RawStdEncoding.DecodeString(value)
	if err1 != nil || err2 != nil {
		return old
	}
	n.attrs = maps.Clone(n.attrs)
	if r.verb == verbNone {
		delete(n.attrs, string(name))
		return &n
	}
	if n.attrs == nil {
		n.attrs = make(map[string][]byte)
	}
	n.attrs[string(name)] = data
	return &n
}

// records are what makes m out of nothing.
func (m *meta) records() []record {
	var all []record
	if m.hasStat {
		all = append(all, statRecord(m.stat))
	}
	if m.major != 0 || m.minor != 0 {
		all = append(all, rdevRecord(m.major, m.minor))
	}
	for name, value := range m.attrs {
		all = append(all, attrRecord(name, value))
	}
	if m.missed {
		all = append(all, record{verb: verbMiss})
	}
	return all
}
