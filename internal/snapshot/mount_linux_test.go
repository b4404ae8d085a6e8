// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/testenv"
)

// mountAll does on this host what the guest does with a snapshot's mounts, and
// returns the container's root.
func mountAll(t *testing.T, mounts []mount.Mount) string {
	t.Helper()
	testenv.NeedRoot(t, "mount")
	dir := t.TempDir()
	var points []string
	for i, m := range mounts[:len(mounts)-1] {
		point := filepath.Join(dir, string(rune('a'+i)))
		if err := os.Mkdir(point, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("mount", "-t", m.Type, "-o", strings.Join(m.Options, ","), m.Source, point).CombinedOutput()
		if err != nil {
			t.Fatalf("mount %s: %v\n%s", m.Source, err, out)
		}
		t.Cleanup(func() { exec.Command("umount", point).Run() })
		points = append(points, point)
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(points[0], d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	options := "lowerdir=" + strings.Join(points[1:], ":") + ",upperdir=" + points[0] + "/upper,workdir=" + points[0] + "/work"
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		if errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EINVAL) {
			testenv.Skip(t, testenv.FileSystem, "overlayfs on this host: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	return root
}

func tree(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if path != root {
			list = append(list, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(list)
	return list
}

func TestKernelStacksTheLayersOfASnapshot(t *testing.T) {
	w := newWorld(t)
	w.unpack(t, "1", "", "keep", "gone", "dir/", "dir/old", "tree/", "tree/old", "again/", "again/old")
	w.unpack(t, "2", "1", ".wh.gone", "dir/.wh.old", "dir/new", "tree/", "tree/.wh..wh..opq", "tree/new",
		".wh.again", "again/", "again/new")
	mounts, err := w.Prepare(t.Context(), "c", "2")
	if err != nil {
		t.Fatal(err)
	}
	root := mountAll(t, mounts)
	want := []string{"again", "again/new", "dir", "dir/new", "keep", "tree", "tree/new"}
	if d := cmp.Diff(want, tree(t, root)); d != "" {
		t.Errorf("tree (-want +got):\n%s", d)
	}

	// A file of a layer keeps its inode number over its copy to the scratch disk.
	path := filepath.Join(root, "keep")
	before := inode(t, path)
	if err := os.WriteFile(path, []byte("changed"), 0); err != nil {
		t.Fatal(err)
	}
	if after := inode(t, path); after != before {
		t.Errorf("inode number went from %d to %d", before, after)
	}
	if err := os.Remove(filepath.Join(root, "dir/new")); err != nil {
		t.Error(err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
