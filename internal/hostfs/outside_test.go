// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/testenv"
)

func TestMagicLinksLeadNowhere(t *testing.T) {
	root := export(t, hostfs.Config{Path: "/proc/self"})
	for _, path := range []string{"root/etc", "cwd/.", "fd/0/x", "root/.."} {
		if _, err := root.Walk(strings.Split(path, "/")...); err == nil {
			t.Errorf("walk of %s gets somewhere", path)
		}
	}
	for _, name := range []string{"root", "exe", "cwd"} {
		link, err := root.Walk(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Open(linux.ORdonly); !errors.Is(err, linux.ELOOP) {
			t.Errorf("open of %s: %v", name, err)
		}
	}
}

// One connection serves two trees; nothing crosses from one to the other.
func TestHardLinksAndRenamesDoNotLeaveTheShare(t *testing.T) {
	share, secret := outside(t)
	var roots []p9srv.Node
	for _, dir := range []string{share, secret} {
		fs, err := hostfs.Open(hostfs.Config{Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		root := fs.Root()
		t.Cleanup(func() { root.Release(); fs.Close() })
		roots = append(roots, root)
	}
	c := p9test.Dial(t, &p9srv.Server{Attach: func(a p9srv.Attach) (p9srv.Node, linux.Errno) {
		return roots[len(a.Aname)].Clone(), 0
	}})
	in, err := c.Attach("", 0)
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Attach("x", 0)
	if err != nil {
		t.Fatal(err)
	}
	file, err := out.Walk("file")
	if err != nil {
		t.Fatal(err)
	}
	for op, err := range map[string]error{
		"link": in.Link(file, "stolen"), "renameat": out.Renameat("file", in, "stolen"), "rename": file.Rename(in, "stolen"),
	} {
		if !errors.Is(err, linux.EXDEV) {
			t.Errorf("%s across shares: %v", op, err)
		}
	}
	if left, _ := os.ReadDir(share); len(left) != 0 {
		t.Errorf("the share holds %v", left)
	}
}

func TestDevicesOfTheHostAreNotOpened(t *testing.T) {
	testenv.NeedRoot(t, "make a device")
	share, _ := outside(t)
	path := filepath.Join(share, "zero")
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		testenv.Skip(t, testenv.FileSystem, "devices cannot be made: %v", err)
	}
	for _, mapped := range []bool{false, true} {
		m := p9test.Client(export(t, hostfs.Config{Path: share, Mapped: mapped}), 0)
		for _, flags := range []linux.OpenFlags{linux.ORdonly, linux.ORdwr, linux.ORdwr | linux.OCreate} {
			if _, err := m.Open("zero", flags, 0); !errors.Is(err, linux.ENXIO) {
				t.Errorf("open of a device, flags %o: %v", flags, err)
			}
		}
		if err := m.Setattr("zero", p9.SetAttr{Valid: p9.SetSize}); err == nil {
			t.Error("a device is truncated")
		}
	}
}

// An unprivileged server must not be led to make a set-user-id program or a
// device on the host.
func TestMappedModesGiveNothingAwayOnTheHost(t *testing.T) {
	share, _ := outside(t)
	m := p9test.Client(export(t, hostfs.Config{Path: share, Mapped: true}), 0)
	f, err := m.Open("suid", linux.OCreate|linux.ORdwr, 0o4755)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := errors.Join(m.Setattr("suid", p9.SetAttr{Valid: p9.SetMode, Mode: 0o6777}), m.Mknod("dev", linux.TypeBlock|0o666, 8, 0)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"suid", "dev"} {
		info, err := os.Lstat(filepath.Join(share, name))
		if err != nil || !info.Mode().IsRegular() || info.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky) != 0 {
			t.Errorf("%s is %v on the host, %v", name, info.Mode(), err)
		}
	}
}

func TestAFullDiskIsToldAndForgotten(t *testing.T) {
	testenv.NeedRoot(t, "mount a small file system")
	for name, cfg := range map[string]hostfs.Config{
		"passthrough": {}, "mapped": {Mapped: true}, "sidecar": {Mapped: true, SidecarOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
				testenv.Skip(t, testenv.FileSystem, "tmpfs cannot be mounted: %v", err)
			}
			t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
			share := filepath.Join(dir, "share")
			os.Mkdir(share, 0o755)
			cfg.Path, cfg.Sidecar = share, filepath.Join(dir, "side")
			m := p9test.Client(export(t, cfg), 0)
			if err := errors.Join(m.Symlink("x", "link"), m.Setattr("link", owned(5))); err != nil {
				t.Fatal(err)
			}
			fill(t, m)
			for i := range 2000 { // the sidecar meets the full disk, too
				if m.Setattr("link", owned(uint32(6+i))) != nil {
					break
				}
			}
			a, err := m.Stat("link")
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Unlink("big"); err != nil {
				t.Fatal(err)
			}
			again := p9test.Client(export(t, cfg), 0)
			if b, err := again.Stat("link"); err != nil || b.UID != a.UID {
				t.Errorf("the link belongs to %d, before %d, %v", b.UID, a.UID, err)
			}
			for _, m := range []p9test.Mount{m, again} {
				f, err := m.Open("after", linux.OCreate|linux.ORdwr, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				_, err = f.WriteAt(make([]byte, 1000), 0)
				if err := errors.Join(err, f.Sync(false), f.Close(), m.Setattr("link", owned(9)), m.Unlink("after")); err != nil {
					t.Errorf("after space returned: %v", err)
				}
			}
		})
	}
}

// fill writes to the file "big" until there is no more room.
func fill(t *testing.T, m p9test.Mount) {
	t.Helper()
	f, err := m.Open("big", linux.OCreate|linux.ORdwr, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(0); off < 4<<20; {
		n, err := f.WriteAt(make([]byte, 4096), off)
		off += int64(n)
		if errors.Is(err, linux.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("four mebibytes fit where there is room for one")
}

func TestARemovedShareAnswersAtOnce(t *testing.T) {
	share, _ := outside(t)
	m := p9test.Client(export(t, hostfs.Config{Path: share}), 0)
	f, err := m.Open("open", linux.OCreate|linux.ORdwr, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(share); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("a file that is open: %v", err)
	}
	if _, err := m.Stat("open"); !errors.Is(err, linux.ENOENT) {
		t.Errorf("stat: %v", err)
	}
	if _, err := m.Open("new", linux.OCreate|linux.ORdwr, 0o600); !errors.Is(err, linux.ENOENT) {
		t.Errorf("create: %v", err)
	}
	if list, err := m.Readdir(""); len(list) != 0 {
		t.Errorf("the removed root lists %v, %v", list, err)
	}
	f.Close()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("a removed root takes %v", d)
	}
}

// Who has a lock, as SQLite, takes a file that can be opened for one that is there.
func TestAFileWhoseNameTheHostTookAwayIsNotOpened(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"removed":  os.Remove,
		"moved":    func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error { return os.Rename(path+".new", path) },
	} {
		t.Run(name, func(t *testing.T) {
			share, _ := outside(t)
			root := export(t, hostfs.Config{Path: share})
			path := filepath.Join(share, "f")
			if err := errors.Join(os.WriteFile(path, []byte("old"), 0o644), os.WriteFile(path+".new", nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			var fids []*p9client.FID
			for range 2 {
				f, err := root.Walk("f")
				if err != nil {
					t.Fatal(err)
				}
				fids = append(fids, f)
			}
			if err := errors.Join(fids[0].Open(linux.ORdonly), fids[0].Clunk()); err != nil {
				t.Fatal(err) // which leaves the server a handle of the file
			}
			if err := take(path); err != nil {
				t.Fatal(err)
			}
			if err := fids[1].Open(linux.ORdonly); !errors.Is(err, linux.ESTALE) {
				t.Errorf("open: %v", err)
			}
		})
	}
}

func TestAFileThatTheGuestMovedOrRemovedIsStillOpenedByItsFid(t *testing.T) {
	share, _ := outside(t)
	root := export(t, hostfs.Config{Path: share})
	path := filepath.Join(share, "f")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, path+".other"); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func() error{
		func() error { return root.Renameat("f", root, "g") },
		func() error { return root.Unlinkat("g", 0) },
		func() error { return root.Unlinkat("f.other", 0) },
	} {
		f, err := root.Walk("f")
		if err != nil {
			if f, err = root.Walk("g"); err != nil {
				f, err = root.Walk("f.other")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := f.Open(linux.ORdonly); err != nil {
			t.Errorf("open: %v", err)
		}
	}
}
