// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/engine/volume"
)

func TestVolumesOutliveTheManager(t *testing.T) {
	dir := t.TempDir()
	m, err := volume.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	v, made, err := m.Create("data", map[string]string{"a": "b"}, directory)
	if err != nil || !made {
		t.Fatalf("made %t, error %v", made, err)
	}
	if _, made, err := m.Create("data", nil, nil); made || err != nil {
		t.Fatalf("the same again: made %t, error %v", made, err)
	}
	anonymous, _, err := m.Create("", nil, directory)
	if err != nil || !anonymous.Anonymous || len(anonymous.Name) != 64 {
		t.Fatalf("anonymous %+v, error %v", anonymous, err)
	}
	if err := os.WriteFile(filepath.Join(v.Path, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// What a kill in the middle of a creation leaves.
	if err := os.MkdirAll(filepath.Join(dir, "half", "_data"), 0o755); err != nil {
		t.Fatal(err)
	}
	again, err := volume.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); !os.IsNotExist(err) {
		t.Errorf("what was half made is still there, and would be in the next volume of its name: %v", err)
	}
	got, err := again.Get("data")
	if err != nil || got.Labels["a"] != "b" || got.Path != v.Path || len(again.List()) != 2 {
		t.Fatalf("%+v of %d, error %v", got, len(again.List()), err)
	}
	if err := again.Remove("data"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.Path); !os.IsNotExist(err) {
		t.Errorf("its data is still there: %v", err)
	}
	if err := again.Remove("data"); !errdefs.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
}

func TestNamesThatAreNoNamesAreRefused(t *testing.T) {
	m, err := volume.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "..", "a/b", "../x", "-a", "a b", "a"} {
		if _, _, err := m.Create(name, nil, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: error %v", name, err)
		}
	}
}
