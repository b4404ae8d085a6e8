// SPDX-License-Identifier: Apache-2.0

package cpio_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/cpio"
	"byre.dev/byre/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var tree = []cpio.Entry{
	{Name: "init", Mode: cpio.TypeRegular | 0o755, Data: []byte("#!/bin/sh\n")},
	{Name: "dev", Mode: cpio.TypeDir | 0o755},
	{Name: "dev/console", Mode: cpio.TypeChar | 0o600, Major: 5, Minor: 1},
	{Name: "empty", Mode: cpio.TypeRegular | 0o644},
	{Name: "link", Mode: cpio.TypeSymlink | 0o777, Data: []byte("init")},
}

func archive(t testing.TB, entries []cpio.Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := cpio.Write(&b, entries); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchiveIsTheSameWhateverTheOrder(t *testing.T) {
	reversed := slices.Clone(tree)
	slices.Reverse(reversed)
	if !bytes.Equal(archive(t, tree), archive(t, reversed)) {
		t.Error("the order of entries shows in the archive")
	}
}

func TestArchiveBytes(t *testing.T) {
	got := hex.Dump(archive(t, tree))
	if *update {
		if err := os.WriteFile("testdata/tree.hex", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/tree.hex")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("archive (-want +got):\n%s", d)
	}
}

func TestCpioReadsTheArchive(t *testing.T) {
	tool := testenv.NeedTool(t, "cpio", "busybox")
	args := []string{"-t"}
	if strings.HasSuffix(tool, "busybox") {
		args = []string{"cpio", "-t"}
	}
	cmd := exec.Command(tool, args...)
	cmd.Stdin = bytes.NewReader(archive(t, tree))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); got != "dev\ndev/console\nempty\ninit\nlink\n" {
		t.Errorf("names %q", got)
	}
}

func TestBadEntriesAreRefused(t *testing.T) {
	for name, e := range map[string]cpio.Entry{
		"no name":        {Mode: cpio.TypeDir},
		"absolute":       {Name: "/x", Mode: cpio.TypeDir},
		"zero in name":   {Name: "a\x00b", Mode: cpio.TypeDir},
		"trailer":        {Name: "TRAILER!!!", Mode: cpio.TypeRegular},
		"data in a dir":  {Name: "d", Mode: cpio.TypeDir, Data: []byte("x")},
		"no type":        {Name: "f", Mode: 0o644},
		"name too long":  {Name: strings.Repeat("n", 4096), Mode: cpio.TypeRegular},
		"duplicate name": {Name: "dev", Mode: cpio.TypeDir},
	} {
		entries := []cpio.Entry{{Name: "dev", Mode: cpio.TypeDir}, e}
		if err := cpio.Write(&bytes.Buffer{}, entries); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func FuzzWriteKeepsAlignment(f *testing.F) {
	f.Add("a", []byte("data"))
	f.Add("some/longer/name", []byte{})
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		var b bytes.Buffer
		err := cpio.Write(&b, []cpio.Entry{{Name: name, Mode: cpio.TypeRegular, Data: data}})
		if err == nil && b.Len()%4 != 0 {
			t.Errorf("archive of %d bytes", b.Len())
		}
	})
}
