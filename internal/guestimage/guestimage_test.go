// SPDX-License-Identifier: Apache-2.0

package guestimage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/guestimage"
)

// writeImage makes a directory that looks like a guest image, without the files
// named.
func writeImage(t *testing.T, dir string, version int, without ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"vmlinux": "", "bzImage": "", "initrd": "", "scratch.ext4": "", "scratch-seed.ext4": "",
		"guest.json": fmt.Sprintf(`{"version":%d,"build":"b1","files":{"vmlinux":"x","initrd":"x","scratch.ext4":"x","scratch-seed.ext4":"x"}}`, version),
	}
	for _, name := range without {
		delete(files, name)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImageIsFoundBesideTheProgramOrInItsShare(t *testing.T) {
	for _, place := range []string{"bin/guest", "share/byre/guest"} {
		root := t.TempDir()
		writeImage(t, filepath.Join(root, place), guestapi.Version)
		img, err := guestimage.Find("", filepath.Join(root, "bin"))
		if err != nil {
			t.Fatal(err)
		}
		if img.Dir != filepath.Join(root, place) || img.Build != "b1" {
			t.Errorf("found %s of build %q, want %s", img.Dir, img.Build, place)
		}
	}
}

func TestNoKernelIsSaidWithWhatToDo(t *testing.T) {
	empty, part := t.TempDir(), t.TempDir()
	writeImage(t, part, guestapi.Version, "vmlinux")
	old := t.TempDir()
	writeImage(t, old, guestapi.Version+1)
	for _, tt := range []struct {
		dir, program string
		want         []string
	}{
		{"", empty, []string{"no guest image", "make guest", guestimage.Env}},
		{empty, "", []string{"no guest image", "guest.json", "make guest"}},
		{part, "", []string{"vmlinux", "make guest"}},
		{old, "", []string{fmt.Sprint(guestapi.Version), fmt.Sprint(guestapi.Version + 1), `"make"`}},
	} {
		_, err := guestimage.Find(tt.dir, tt.program)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q beside %q: %v, want %q", tt.dir, tt.program, err, want)
			}
		}
	}
}
