// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/engine/volume"
)

// open opens a manager with a template of 1 MiB.
func open(t *testing.T) (*volume.Manager, string) {
	t.Helper()
	dir := t.TempDir()
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.Create(disk.SeedOf(template), disk.SeedSize); err != nil {
		t.Fatal(err)
	}
	m, err := volume.Open(filepath.Join(dir, "volumes"), template)
	if err != nil {
		t.Fatal(err)
	}
	return m, dir
}

// reopen opens the manager that open made as another daemon does.
func reopen(t *testing.T, dir string) *volume.Manager {
	t.Helper()
	m, err := volume.Open(filepath.Join(dir, "volumes"), filepath.Join(dir, "template"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// directory makes a volume a directory of the host.
var directory = map[string]string{"type": "directory"}

func TestOptionsThatAreNotHonoredAreRefusedByName(t *testing.T) {
	m, dir := open(t)
	for _, c := range []struct {
		names   string
		options map[string]string
	}{
		{"type=nfs", map[string]string{"type": "nfs", "device": ":/x", "o": "addr=1.2.3.4"}},
		{"type=tmpfs", map[string]string{"type": "tmpfs", "device": "tmpfs"}},
		{"option o", map[string]string{"type": "ext4", "o": "noatime"}},
		{"option size", map[string]string{"type": "directory", "size": "1g"}},
		{"o=nosuid", map[string]string{"type": "none", "o": "nosuid", "device": dir}},
		{"device", map[string]string{"type": "none", "o": "bind"}},
		{"device", map[string]string{"o": "bind", "device": dir + "/missing"}},
		{"size", map[string]string{"type": "ext4", "size": "many"}},
		{"size", map[string]string{"type": "ext4", "size": "1k"}},
		{"color", map[string]string{"o": "bind", "device": dir, "color": "red"}},
	} {
		_, _, err := m.Create("vol", nil, c.options)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%v: %v, want a refusal that names %s", c.options, err, c.names)
		}
	}
}

func TestVolumeOfADirectoryLeavesItThere(t *testing.T) {
	m, dir := open(t)
	data := filepath.Join(dir, "mine")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	v, _, err := m.Create("vol", nil, map[string]string{"type": "none", "o": "bind", "device": data})
	if err != nil || v.Path != data {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := m.Remove("vol"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(data); err != nil {
		t.Errorf("the directory went with its volume: %v", err)
	}
}

func TestVolumeWithoutOptionsIsADiskUnlessAnEarlierVersionMadeIt(t *testing.T) {
	m, dir := open(t)
	v, _, err := m.Create("vol", nil, nil)
	if err != nil || !v.Disk() {
		t.Fatalf("%+v, %v; want a disk", v, err)
	}
	old := filepath.Join(dir, "volumes", "old")
	if err := os.MkdirAll(filepath.Join(old, "_data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "volume.json"), []byte(`{"Name":"old"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m = reopen(t, dir)
	if v, err := m.Get("vol"); err != nil || !v.Disk() {
		t.Errorf("opened again, the new one is %+v, %v", v, err)
	}
	if v, err := m.Get("old"); err != nil || v.Disk() || v.Path != filepath.Join(old, "_data") {
		t.Errorf("the old one is %+v, %v", v, err)
	}
}

func TestDiskHasRoomForTheSizeOfItsVolume(t *testing.T) {
	m, _ := open(t)
	v, _, err := m.Create("vol", nil, map[string]string{"type": "ext4", "size": "1g"})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(v.Path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() < 1<<30 || info.Size() > 1<<30+1<<26 {
		t.Errorf("a disk of %d bytes for 1 GiB", info.Size())
	}
}

func TestAFillThatFailedLeavesNothingThatCouldClearAUsersFiles(t *testing.T) {
	m, _ := open(t)
	v, _, err := m.Create("vol", nil, directory)
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.BeginFill(v, false)
	if err != nil || !f.Needed {
		t.Fatalf("%+v, %v", f, err)
	}
	file := filepath.Join(v.Path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.End(false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("half a fill is still there")
	}
	// What comes into the volume now is somebody's.
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = m.BeginFill(v, false); err != nil || f.Needed {
		t.Fatalf("%+v, %v; want no fill", f, err)
	}
	if err := f.End(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a file that was no fill's is gone: %v", err)
	}
}

func TestAUserWhoWantsNoFillFindsNothingOfOneThatWasCutOff(t *testing.T) {
	m, dir := open(t)
	v, _, err := m.Create("vol", nil, directory)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.BeginFill(v, false); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(v.Path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m = reopen(t, dir) // the daemon was killed
	if err := m.Settle(v, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("half a fill is still there")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := m.BeginFill(v, false)
	if err != nil || f.Needed {
		t.Fatalf("%+v, %v; want no fill", f, err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a user's file was taken for a fill's: %v", err)
	}
}

func TestFillThatWasCutOffIsDoneAgain(t *testing.T) {
	m, dir := open(t)
	v, _, err := m.Create("vol", nil, directory)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(used, want bool) *volume.Fill {
		t.Helper()
		f, err := m.BeginFill(v, used)
		if err != nil {
			t.Fatal(err)
		}
		if f.Needed != want {
			t.Errorf("needed %v, want %v", f.Needed, want)
		}
		return f
	}
	end := func(f *volume.Fill, done bool) {
		t.Helper()
		if err := f.End(done); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(v.Path, "half")
	f := begin(false, true)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m = reopen(t, dir)            // the daemon was killed
	end(begin(true, false), true) // in use: what is there stays
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a volume in use was cleared: %v", err)
	}
	f = begin(false, true)
	if _, err := os.Stat(file); err == nil {
		t.Error("half a fill is still there")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	end(f, true)
	end(begin(false, false), true)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	end(begin(false, true), true) // emptied by its user, filled anew as Docker does
}
