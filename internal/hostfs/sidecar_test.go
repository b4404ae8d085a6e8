// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

func sidecarShare(t *testing.T) hostfs.Config {
	t.Helper()
	return hostfs.Config{
		Path: t.TempDir(), Mapped: true, SidecarOnly: true, UID: 1000, GID: 1000,
		Sidecar: filepath.Join(t.TempDir(), "side"),
	}
}

func owned(uid uint32) p9.SetAttr {
	return p9.SetAttr{Valid: p9.SetUID | p9.SetGID, UID: uid, GID: uid}
}

// Whatever byte a journal ends at, each file shows what was stored for it
// before, or after, never anything else, and the journal takes more.
func TestAJournalCutAnywhereIsUsable(t *testing.T) {
	cfg := sidecarShare(t)
	m := p9test.Client(export(t, cfg), 1000)
	for i := range 3 {
		name := fmt.Sprint("l", i)
		if err := errors.Join(m.Symlink("x", name), m.Setattr(name, owned(uint32(10+i))),
			m.Setxattr(name, "trusted.a", bytes.Repeat([]byte{byte(i)}, 40), 0)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(cfg.Sidecar)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(cfg.Sidecar, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		func() {
			fs, err := hostfs.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer fs.Close()
			root := fs.Root()
			defer root.Release()
			for i := range 3 {
				n, e := root.Walk(fmt.Sprint("l", i))
				if e != 0 {
					t.Fatal(e)
				}
				var a p9.Attr
				n.Getattr(p9.AttrAll, &a)
				if a.UID != 0 && a.UID != 1000 && a.UID != uint32(10+i) {
					t.Errorf("cut at %d: l%d belongs to %d", cut, i, a.UID)
				}
				s := owned(77)
				if e := n.Setattr(&s, nil); e != 0 {
					t.Errorf("cut at %d: chown: %v", cut, e)
				}
				if n.Getattr(p9.AttrAll, &a); a.UID != 77 {
					t.Errorf("cut at %d: after chown l%d belongs to %d", cut, i, a.UID)
				}
				n.Release()
			}
		}()
	}
}

func TestASweepForgetsFilesThatAreGone(t *testing.T) {
	cfg := sidecarShare(t)
	fs, err := hostfs.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	root := fs.Root()
	defer root.Release()
	m := p9test.Client(p9test.Attach(t, &p9srv.Server{Root: root}, 1000), 1000)
	if err := m.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stays", "d/goes", "d/unlinked"} {
		if err := errors.Join(m.Symlink("x", name), m.Setattr(name, owned(42))); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Unlink("d/unlinked"); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(cfg.Path, "d/goes"))
	// Another server has the journal open.
	other := p9test.Client(export(t, cfg), 1000)
	if a, err := other.Stat("stays"); err != nil || a.UID != 42 {
		t.Fatalf("uid %d, %v", a.UID, err)
	}
	size := func() int64 {
		info, err := os.Stat(cfg.Sidecar)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	for range 2 {
		if err := fs.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	// The directory and one link are left.
	if after := size(); after >= before/2 {
		t.Errorf("the journal had %d bytes and has %d", before, after)
	}
	for name, m := range map[string]p9test.Mount{"the server that swept": m, "the other server": other} {
		if a, err := m.Stat("stays"); err != nil || a.UID != 42 {
			t.Errorf("%s shows uid %d, %v", name, a.UID, err)
		}
	}
	if err := other.Setattr("stays", owned(43)); err != nil {
		t.Fatal(err)
	}
	if a, err := m.Stat("stays"); err != nil || a.UID != 43 {
		t.Errorf("uid %d, %v", a.UID, err)
	}
}

func TestLinksCarryPrivilegedAttributes(t *testing.T) {
	cfg := sidecarShare(t)
	cfg.SidecarOnly = false
	m := p9test.Client(export(t, cfg), 1000)
	if err := errors.Join(m.Symlink("x", "l"), m.Setxattr("l", "trusted.a", []byte("v"), 0),
		m.Setxattr("l", "security.b", nil, 0)); err != nil {
		t.Fatal(err)
	}
	again := p9test.Client(export(t, cfg), 1000)
	v, err := again.Getxattr("l", "trusted.a")
	names, err2 := again.Listxattr("l")
	if err != nil || err2 != nil || string(v) != "v" || len(names) != 2 {
		t.Errorf("value %q, names %q, %v, %v", v, names, err, err2)
	}
	if err := again.Setxattr("l", "user.c", []byte("v"), 0); !errors.Is(err, linux.EPERM) {
		t.Errorf("a user's attribute of a link: %v", err)
	}
	if err := again.Removexattr("l", "trusted.a"); err != nil {
		t.Error(err)
	}
	if _, err := m.Getxattr("l", "trusted.a"); !errors.Is(err, linux.ENODATA) {
		t.Errorf("after the removal: %v", err)
	}
}

func TestAGuestCannotFillTheSidecar(t *testing.T) {
	m := p9test.Client(export(t, sidecarShare(t)), 1000)
	if err := m.Symlink("x", "l"); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		err := m.Setxattr("l", fmt.Sprint("trusted.", i), make([]byte, 30000), 0)
		if errors.Is(err, linux.ENOSPC) {
			break
		}
		if err != nil || i > 10 {
			t.Fatalf("attribute %d: %v", i, err)
		}
	}
}

// A file without a name keeps, for who has it open, what is not changed.
func TestAnUnlinkedOpenFileKeepsWhatIsInTheSidecar(t *testing.T) {
	m := p9test.Client(export(t, sidecarShare(t)), 1000)
	f, err := m.Open("f", linux.ORdwr|linux.OCreate, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Setattr(owned(33)), f.Setxattr("trusted.a", []byte("a"), 0), m.Unlink("f"),
		f.Setxattr("user.b", []byte("b"), 0), f.Setattr(p9.SetAttr{Valid: p9.SetMode, Mode: 0o4711})); err != nil {
		t.Fatal(err)
	}
	if a, err := f.Stat(); err != nil || a.UID != 33 || a.Mode != linux.TypeRegular|0o4711 || a.Nlink != 0 {
		t.Errorf("it is %d's, %o, has %d names, %v", a.UID, a.Mode, a.Nlink, err)
	}
	for name, want := range map[string]string{"trusted.a": "a", "user.b": "b"} {
		if v, err := f.Getxattr(name); string(v) != want {
			t.Errorf("%s is %q, %v", name, v, err)
		}
	}
	// The next file, of whatever number, has nothing of it.
	if g, err := m.Open("f", linux.ORdwr|linux.OCreate, 0o600); err != nil {
		t.Error(err)
	} else if a, err := g.Stat(); err != nil || a.UID == 33 || a.Mode != linux.TypeRegular|0o600 {
		t.Errorf("another file of the name is %d's, %o, %v", a.UID, a.Mode, err)
	} else {
		g.Close()
	}
}
