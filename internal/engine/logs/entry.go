// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Entry is one line of a log, or a part of a long one. Line ends with a newline
// unless the line goes on in the stream's next entry.
type Entry struct {
	// Stream is Stdout or Stderr.
	Stream string
	// Time is when byre read the line.
	Time time.Time
	// Line is what was written, newline included.
	Line []byte
}

// cutLine returns the length of the first line of p, its newline included, and
// whether it is whole; no more than limit bytes are taken.
func cutLine(p []byte, limit int) (int, bool) {
	window := p[:min(len(p), limit)]
	if i := bytes.IndexByte(window, '\n'); i >= 0 {
		return i + 1, true
	}
	return len(window), false
}

// encodeTime gives a time the form that it has in an entry.
func encodeTime(at time.Time) []byte { return at.UTC().AppendFormat(nil, time.RFC3339Nano) }

// appendEntry encodes an entry, one JSON object on a line.
func appendEntry(b []byte, stream string, line, at []byte) []byte {
	b = append(b, `{"log":`...)
	b, lossy := appendString(b, line)
	b = append(b, `,"stream":"`...)
	b = append(b, stream...)
	b = append(b, `","time":"`...)
	b = append(b, at...)
	b = append(b, '"')
	if lossy {
		b = append(b, `,"raw":"`...)
		b = base64.StdEncoding.AppendEncode(b, line)
		b = append(b, '"')
	}
	return append(b, '}', '\n')
}

const hexDigits = "0123456789abcdef"

// appendString encodes bytes as a JSON string; what is no UTF-8 becomes U+FFFD,
// and lossy says that there was such.
func appendString(b, s []byte) (out []byte, lossy bool) {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			if r, size = utf8.DecodeRune(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			lossy = true
		}
		b = append(b, s[start:i]...)
		b = appendEscaped(b, r)
		i += size
		start = i
	}
	return append(append(b, s[start:]...), '"'), lossy
}

func appendEscaped(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	case utf8.RuneError:
		return append(b, `\ufffd`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&0xf])
}

// decodeEntry reads one line of a log file.
func decodeEntry(line []byte) (Entry, error) {
	var e struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
		Raw    []byte    `json:"raw"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("decode log entry: %w", err)
	}
	if e.Raw != nil {
		return Entry{Stream: e.Stream, Time: e.Time, Line: e.Raw}, nil
	}
	return Entry{Stream: e.Stream, Time: e.Time, Line: []byte(e.Log)}, nil
}
