// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// DefaultDetachKeys are Docker's: ctrl-p, ctrl-q.
func DefaultDetachKeys() []byte { return []byte{16, 17} }

// ParseKeys reads a sequence of detach keys as Docker's clients write it:
// single characters and "ctrl-x", separated by commas. "" means the default.
func ParseKeys(s string) ([]byte, error) {
	if s == "" {
		return DefaultDetachKeys(), nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		b, ok := parseKey(key)
		if !ok {
			return nil, errdefs.ErrInvalidArgument.WithMessage(
				fmt.Sprintf("Invalid detach keys (%s) provided: give single characters or ctrl-<a letter or one of @[\\]^_>, separated by commas", s))
		}
		keys = append(keys, b)
	}
	return keys, nil
}

func parseKey(key string) (byte, bool) {
	if len(key) == 1 {
		return key[0], true
	}
	name, ok := strings.CutPrefix(key, "ctrl-")
	if !ok || len(name) != 1 {
		return 0, false
	}
	switch c := name[0]; {
	case c >= 'a' && c <= 'z':
		return c - 'a' + 1, true
	case c == '@':
		return 0, true
	case c >= '[' && c <= '_':
		return c - '[' + 27, true
	}
	return 0, false
}
