// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAnEmptyVolumeIsFilledWhetherItIsThereOrNot(t *testing.T) {
	for _, there := range []bool{false, true} {
		root, dir, outside := container(t)
		write(t, filepath.Join(dir, "data", "f"), "of the image")
		if err := os.Chmod(filepath.Join(dir, "data"), 0o750); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(outside, "volume")
		if there {
			if err := os.Mkdir(target, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if filled, err := root.Fill("/data", target, true); !filled || err != nil {
			t.Fatalf("there %v: filled %v, %v", there, filled, err)
		}
		if b, err := os.ReadFile(filepath.Join(target, "f")); err != nil || string(b) != "of the image" {
			t.Errorf("there %v: %q, %v", there, b, err)
		}
		if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("there %v: %v, %v", there, info, err)
		}
		if left, err := filepath.Glob(target + ".*"); err != nil || len(left) > 0 {
			t.Errorf("there %v: left are %v, %v", there, left, err)
		}
		// What is not empty stays as it is.
		write(t, filepath.Join(target, "f"), "of a user")
		if filled, err := root.Fill("/data", target, true); filled || err != nil {
			t.Errorf("there %v: filled again %v, %v", there, filled, err)
		}
		if b, err := os.ReadFile(filepath.Join(target, "f")); err != nil || string(b) != "of a user" {
			t.Errorf("there %v: %q, %v", there, b, err)
		}
	}
}
