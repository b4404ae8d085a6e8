// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/testenv"
)

// unprivilegedDir names the directory for a run of this test binary as an
// ordinary user.
const unprivilegedDir = "HOSTFS_UNPRIVILEGED_DIR"

func TestMappedKeepsTheContractWithoutRoot(t *testing.T) {
	if dir := os.Getenv(unprivilegedDir); dir != "" {
		root := export(t, hostfs.Config{Path: dir, Mapped: true, Sidecar: filepath.Join(dir, "..", "side")})
		p9test.Run(t, p9test.Client(root, 0), p9test.Traits{Slow: true})
		followed := filepath.Join(dir, "followed")
		if err := os.Mkdir(followed, 0o755); err != nil {
			t.Fatal(err)
		}
		followHost(t, hostfs.Config{Path: followed, Mapped: true, Sidecar: filepath.Join(dir, "..", "side2")}).keeps(t, p9test.Traits{Slow: true})
		return
	}
	testenv.NeedRoot(t, "become an ordinary user")
	dir, err := os.MkdirTemp("", "hostfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin := filepath.Join(dir, "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(bin, self, 0o755), os.Mkdir(filepath.Join(dir, "share"), 0o755),
		os.Chown(filepath.Join(dir, "share"), 65534, 65534), os.Chmod(dir, 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin, "-test.run=^TestMappedKeepsTheContractWithoutRoot$", "-test.timeout=60s")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), unprivilegedDir+"="+filepath.Join(dir, "share"), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as uid 65534: %v\n%s", err, out)
	}
}

func TestStoredMetadataOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	cfg := hostfs.Config{Path: dir, Mapped: true, UID: 1000, GID: 1000, Sidecar: filepath.Join(t.TempDir(), "side")}
	os.WriteFile(filepath.Join(dir, "plain"), nil, 0o640)
	first := p9test.Client(export(t, cfg), 0)
	first.Symlink("plain", "link")
	own := p9.SetAttr{Valid: p9.SetUID | p9.SetGID, UID: 33, GID: 44}
	if err := first.Setattr("link", own); err != nil {
		t.Fatal(err)
	}
	if err := first.Mknod("dev", linux.TypeBlock|0o4600, 8, 1); err != nil {
		t.Fatal(err)
	}
	// A crash has left half a line.
	side, err := os.OpenFile(cfg.Sidecar, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	side.WriteString("deadbeef 1 2")
	side.Close()
	second := p9test.Client(export(t, cfg), 0)
	second.Symlink("x", "other")
	if err := second.Setattr("other", own); err != nil {
		t.Fatal(err)
	}
	third := p9test.Client(export(t, cfg), 0)
	for name, want := range map[string]p9.Attr{
		"plain": {UID: 1000, GID: 1000, Mode: linux.TypeRegular | 0o640},
		"link":  {UID: 33, GID: 44, Mode: linux.TypeSymlink | 0o777},
		"other": {UID: 33, GID: 44, Mode: linux.TypeSymlink | 0o777},
		"dev":   {Mode: linux.TypeBlock | 0o4600, Rdev: 8<<8 | 1},
	} {
		a, err := third.Stat(name)
		if err != nil || a.UID != want.UID || a.GID != want.GID || a.Mode != want.Mode || a.Rdev != want.Rdev {
			t.Errorf("%s: %d:%d %o %x, %v", name, a.UID, a.GID, a.Mode, a.Rdev, err)
		}
	}
}

func TestMetadataOfPodmanIsUnderstood(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	os.WriteFile(path, nil, 0o600)
	for value, want := range map[string]string{
		"7:8:0100750": "7:8", "7:8:0750": "7:8", "9:9:020666:block": "9:9",
		"nonsense": "1:1", "7:8:040755": "1:1",
	} {
		if err := unix.Setxattr(path, "user.containers.override_stat", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		m := p9test.Client(export(t, hostfs.Config{Path: dir, Mapped: true, UID: 1, GID: 1}), 0)
		a, err := m.Stat("f")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join([]string{string(rune('0' + a.UID)), string(rune('0' + a.GID))}, ":")
		if got != want {
			t.Errorf("%q shows %s, want %s", value, got, want)
		}
		names, err := m.Listxattr("f")
		if err != nil || len(names) != 0 {
			t.Errorf("the guest sees %q, %v", names, err)
		}
	}
}

// The value is that of containers/storage: podman, libkrun and fuse-overlayfs
// read uid:gid:0mode with the file's type in the mode.
func TestWhatIsStoredIsExactlyWhatOthersRead(t *testing.T) {
	dir := t.TempDir()
	m := p9test.Client(export(t, hostfs.Config{Path: dir, Mapped: true, UID: 1000, GID: 1000, Sidecar: filepath.Join(t.TempDir(), "side")}), 0)
	f, err := m.Open("file", linux.OCreate|linux.ORdwr, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, err := range []error{
		m.Mkdir("dir", 0o750), m.Mknod("fifo", linux.TypeFIFO|0o600, 0, 0),
		m.Mknod("null", linux.TypeChar|0o666, 1, 3), m.Mknod("disk", linux.TypeBlock|0o660, 259, 300),
		m.Setattr("file", p9.SetAttr{Valid: p9.SetUID | p9.SetGID, UID: 33, GID: 4294967294}),
		m.Setattr("dir", p9.SetAttr{Valid: p9.SetMode, Mode: 0o7777}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][2]string{
		"file": {"33:4294967294:0100640"}, "dir": {"0:0:047777"}, "fifo": {"0:0:010600"},
		"null": {"0:0:020666", "1:3"}, "disk": {"0:0:060660", "259:300"},
	} {
		for i, attr := range []string{"user.containers.override_stat", "user.byre.rdev"} {
			buf := make([]byte, 100)
			n, err := unix.Lgetxattr(filepath.Join(dir, name), attr, buf)
			if want[i] == "" && err == unix.ENODATA {
				continue
			}
			if got := string(buf[:max(n, 0)]); err != nil || got != want[i] {
				t.Errorf("%s of %s is %q, %v, want %q", attr, name, got, err, want[i])
			}
		}
	}
}

// As podman's and libkrun's own files are: what is shown is what they stored,
// and a change keeps the rest of it.
func TestAFileOfAnotherToolIsShownAndChanged(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{"f": "1:2:0104755", "pipe": "3:4:010644:pipe", "plain": "5:6:0644"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(path, "user.containers.override_stat", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	m := p9test.Client(export(t, hostfs.Config{Path: dir, Mapped: true}), 0)
	for name, want := range map[string]p9.Attr{
		"f":     {UID: 1, GID: 2, Mode: linux.TypeRegular | 0o4755},
		"pipe":  {UID: 3, GID: 4, Mode: linux.TypeFIFO | 0o644},
		"plain": {UID: 5, GID: 6, Mode: linux.TypeRegular | 0o644},
	} {
		if a, err := m.Stat(name); err != nil || a.UID != want.UID || a.GID != want.GID || a.Mode != want.Mode {
			t.Errorf("%s is %d:%d %o, %v", name, a.UID, a.GID, a.Mode, err)
		}
		if err := m.Setattr(name, p9.SetAttr{Valid: p9.SetUID, UID: 9}); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{"f": "9:2:0100755", "pipe": "9:4:010644", "plain": "9:6:0100644"} {
		buf := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(dir, name), "user.containers.override_stat", buf)
		if got := string(buf[:max(n, 0)]); err != nil || got != want {
			t.Errorf("%s then holds %q, %v, want %q", name, got, err, want)
		}
	}
}
