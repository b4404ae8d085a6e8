// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// known are the filters that need no compiling, as Encode puts them. The file
// is empty here: the build lays what ../filters has made over it.
//
//go:embed known.bin
var known string

var errKnown = errors.New("runc's table of seccomp filters is damaged: build runc again")

// lookUp returns the program of a filter's calls; none is empty.
func lookUp(table string, calls []byte) (program string, err error) {
	for rest := table; rest != ""; {
		var key string
		if key, rest, err = field(rest); err != nil {
			return "", err
		}
		if program, rest, err = field(rest); err != nil {
			return "", err
		}
		if key == string(calls) {
			return program, nil
		}
	}
	return "", nil
}

// field cuts off what append put first.
func field(s string) (field, rest string, err error) {
	if len(s) < lengthSize {
		return "", "", errKnown
	}
	n := binary.LittleEndian.Uint32([]byte(s[:lengthSize]))
	s = s[lengthSize:]
	if uint64(n) > uint64(len(s)) {
		return "", "", errKnown
	}
	return s[:n], s[n:], nil
}

const lengthSize = 4

func appendField(b, field []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

// Encode compiles a filter and appends it to a table of known ones.
func (f *ScmpFilter) Encode(table []byte) ([]byte, error) {
	file, err := os.CreateTemp("", "filter")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	if err := f.compile(file); err != nil {
		return nil, err
	}
	program, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
	if err != nil {
		return nil, err
	}
	if len(program) == 0 {
		return nil, fmt.Errorf("the program of a filter of %d rules is empty", len(f.rules))
	}
	return appendField(appendField(table, f.calls), program), nil
}
