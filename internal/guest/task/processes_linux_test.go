// SPDX-License-Identifier: Apache-2.0

package task

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
)

func TestAProcessIsDescribedInTheKernelsWords(t *testing.T) {
	p, err := describeProcess("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%d (", os.Getpid()); !bytes.HasPrefix(p.Stat, []byte(want)) {
		t.Errorf("stat is %s", p.Stat)
	}
	if !bytes.Contains(p.Status, []byte("\nUid:\t")) || !bytes.HasPrefix(p.Cmdline, []byte(os.Args[0]+"\x00")) {
		t.Errorf("status is %s, command line %q", p.Status, p.Cmdline)
	}
	if p.UptimeMs == 0 || p.MemoryBytes < 1<<20 {
		t.Errorf("a machine up for %d ms with %d bytes", p.UptimeMs, p.MemoryBytes)
	}
	if _, err := describeProcess("/proc", 1<<30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is not there: %v", err)
	}
}
