// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"bytes"
	"testing"
	"time"

	"byre.dev/byre/internal/engine/logs"
)

func TestDetailsOfALogStandBeforeItsLines(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		details, timestamps bool
		want                string
	}{
		{false, false, "one two\nthree\n"},
		{true, false, " one two\n three\n"},
		{true, true, "2026-01-02T03:04:05.000000000Z  one two\n2026-01-02T03:04:05.000000000Z  three\n"},
	} {
		var out bytes.Buffer
		w := &logWriter{frameWriter: frameWriter{w: &out}, timestamps: tc.timestamps, details: tc.details}
		for _, line := range []string{"one ", "two\n", "three\n"} {
			if err := w.entry(logs.Entry{Stream: logs.Stdout, Time: at, Line: []byte(line)}); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != tc.want {
			t.Errorf("details %t, timestamps %t: %q, want %q", tc.details, tc.timestamps, out.String(), tc.want)
		}
	}
}
