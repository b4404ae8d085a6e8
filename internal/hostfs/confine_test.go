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

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// outside makes a directory to export, beside one that must not be reached.
func outside(t *testing.T) (share, secret string) {
	t.Helper()
	dir := t.TempDir()
	share, secret = filepath.Join(dir, "share"), filepath.Join(dir, "secret")
	for _, d := range []string{share, secret} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(secret, "file"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	return share, secret
}

func TestSymbolicLinksLeadNowhere(t *testing.T) {
	share, secret := outside(t)
	for name, target := range map[string]string{
		"abs": secret, "rel": "../secret", "file": filepath.Join(secret, "file"), "proc": "/proc/self/root",
	} {
		if err := os.Symlink(target, filepath.Join(share, name)); err != nil {
			t.Fatal(err)
		}
	}
	root := export(t, hostfs.Config{Path: share, Handles: 1})
	for _, path := range []string{"abs/file", "rel/file", "proc/etc"} {
		if _, err := root.Walk(strings.Split(path, "/")...); err == nil {
			t.Errorf("walk of %s gets somewhere", path)
		}
	}
	for _, name := range []string{"abs", "rel", "file"} {
		link, err := root.Walk(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Open(linux.ORdonly); !errors.Is(err, linux.ELOOP) {
			t.Errorf("open of the link %s: %v", name, err)
		}
		if err := link.Setattr(p9.SetAttr{Valid: p9.SetSize}); err == nil {
			t.Errorf("truncation through the link %s succeeds", name)
		}
		link.Setattr(p9.SetAttr{Valid: p9.SetMode, Mode: 0o777})
	}
	dir := clone(t, root)
	if err := dir.Create("file", linux.OCreate|linux.ORdwr|linux.OTrunc, 0o600, 0); !errors.Is(err, linux.ELOOP) {
		t.Errorf("creation through a link: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(secret, "file")); string(got) != "secret" {
		t.Errorf("the file outside holds %q", got)
	}
	if info, _ := os.Stat(filepath.Join(secret, "file")); info.Mode().Perm() != 0o644 {
		t.Errorf("the file outside has mode %v", info.Mode())
	}
}

func clone(t *testing.T, f *p9client.FID) *p9client.FID {
	t.Helper()
	c, err := f.Walk()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A directory that the guest has a fid of is replaced on the host by a link
// that leads out, with no handle left open in the server.
func TestADirectoryReplacedByALinkIsStale(t *testing.T) {
	share, secret := outside(t)
	for _, d := range []string{"d", "e1", "e2", "e3"} {
		if err := os.Mkdir(filepath.Join(share, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := export(t, hostfs.Config{Path: share, Handles: 1})
	d, err := root.Walk("d")
	if err != nil {
		t.Fatal(err)
	}
	os.Rename(filepath.Join(share, "d"), filepath.Join(share, "old"))
	os.Symlink(secret, filepath.Join(share, "d"))
	if _, err := d.Walk("file"); !errors.Is(err, linux.ESTALE) && !errors.Is(err, linux.ENOENT) {
		t.Errorf("walk below a replaced directory: %v", err)
	}
	if _, err := d.Getattr(p9.AttrAll); err != nil && !errors.Is(err, linux.ESTALE) {
		t.Errorf("stat of a replaced directory: %v", err)
	}
}

func TestParentsSwappedDuringWalksLeadNowhere(t *testing.T) {
	share, secret := outside(t)
	inner := filepath.Join(share, "a")
	os.Mkdir(inner, 0o755)
	os.WriteFile(filepath.Join(inner, "file"), []byte("inside"), 0o644)
	root := export(t, hostfs.Config{Path: share, Handles: 1})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		link, spare := filepath.Join(share, "link"), filepath.Join(share, "spare")
		os.Symlink(secret, link)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(inner, spare)
			os.Rename(link, inner)
			os.Rename(inner, link)
			os.Rename(spare, inner)
		}
	}()
	reached := 0
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		f, err := root.Walk("a", "file")
		if err != nil {
			continue
		}
		if f.Open(linux.ORdonly) == nil {
			b := make([]byte, 16)
			n, _ := f.ReadAt(b, 0)
			if string(b[:n]) == "secret" {
				t.Fatal("the file outside was read")
			}
			reached++
		}
		f.Clunk()
	}
	close(stop)
	<-done
	t.Logf("the file inside was read %d times", reached)
}

func TestSpecialFilesOfTheHostAreNotOpened(t *testing.T) {
	share, _ := outside(t)
	if err := syscall.Mkfifo(filepath.Join(share, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	root := export(t, hostfs.Config{Path: share})
	f, err := root.Walk("fifo")
	if err != nil {
		t.Fatal(err)
	}
	for _, flags := range []linux.OpenFlags{linux.ORdonly, linux.OWronly, linux.ORdwr} {
		if err := f.Open(flags); !errors.Is(err, linux.ENXIO) {
			t.Errorf("open of a FIFO with flags %o: %v", flags, err)
		}
	}
}

func TestTheRootsParentIsTheRoot(t *testing.T) {
	share, _ := outside(t)
	root := export(t, hostfs.Config{Path: share})
	dir := clone(t, root)
	if err := dir.Open(linux.ORdonly); err != nil {
		t.Fatal(err)
	}
	list, err := dir.Readdir(0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.QID.Path != root.QID.Path {
			t.Errorf("%s is %d, the root %d", d.Name, d.QID.Path, root.QID.Path)
		}
	}
}

func TestARemovedRootIsEmpty(t *testing.T) {
	share, _ := outside(t)
	root := export(t, hostfs.Config{Path: share})
	if err := os.Remove(share); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Mkdir("d", 0o755, 0); !errors.Is(err, linux.ENOENT) {
		t.Errorf("mkdir in a removed root: %v", err)
	}
	if _, err := root.Walk("x"); !errors.Is(err, linux.ENOENT) {
		t.Errorf("walk in a removed root: %v", err)
	}
}

func TestReadOnlyRefusesEveryChange(t *testing.T) {
	share, _ := outside(t)
	os.WriteFile(filepath.Join(share, "f"), []byte("x"), 0o644)
	root := export(t, hostfs.Config{Path: share, ReadOnly: true})
	m := p9test.Client(root, 0)
	_, create := m.Open("new", linux.OCreate|linux.ORdwr, 0o600)
	_, write := m.Open("f", linux.ORdwr, 0)
	_, truncate := m.Open("f", linux.ORdonly|linux.OTrunc, 0)
	for op, err := range map[string]error{
		"create": create, "open for writing": write, "open with truncation": truncate,
		"mkdir": m.Mkdir("d", 0o755), "symlink": m.Symlink("x", "l"), "link": m.Link("f", "g"),
		"mknod": m.Mknod("n", linux.TypeFIFO, 0, 0), "rename": m.Rename("f", "g"),
		"unlink": m.Unlink("f"), "setattr": m.Setattr("f", p9.SetAttr{Valid: p9.SetMode}),
		"setxattr": m.Setxattr("f", "user.a", []byte("x"), 0), "removexattr": m.Removexattr("f", "user.a"),
	} {
		if !errors.Is(err, linux.EROFS) {
			t.Errorf("%s: %v", op, err)
		}
	}
	f, err := m.Open("f", linux.OCreate|linux.ORdonly, 0o600)
	if err != nil {
		t.Errorf("O_CREAT of a file that is there: %v", err)
	} else {
		f.Close()
	}
}

func TestAFileExportShowsThatFileAlone(t *testing.T) {
	_, secret := outside(t)
	path := filepath.Join(secret, "file")
	os.WriteFile(filepath.Join(secret, "other"), nil, 0o644)
	root := export(t, hostfs.Config{Path: path})
	m := p9test.Client(root, 0)
	list, err := m.Readdir("")
	if err != nil || len(list) != 1 || list[0].Name != "file" {
		t.Errorf("the export lists %v, %v", list, err)
	}
	if _, err := m.Stat("other"); !errors.Is(err, linux.ENOENT) {
		t.Errorf("stat of the neighbor: %v", err)
	}
	for op, err := range map[string]error{
		"mkdir": m.Mkdir("d", 0o755), "unlink": m.Unlink("file"), "rename": m.Rename("file", "x"),
		"link": m.Link("file", "x"),
	} {
		if !errors.Is(err, linux.EROFS) && !errors.Is(err, linux.EBUSY) {
			t.Errorf("%s: %v", op, err)
		}
	}
	f, err := m.Open("file", linux.ORdwr, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("S"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Setattr(p9.SetAttr{Valid: p9.SetSize, Size: 3}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got, _ := os.ReadFile(path); string(got) != "Sec" {
		t.Errorf("the host's file holds %q", got)
	}
}

func TestAFileReplacedOnTheHostIsSeenThroughTheSameFid(t *testing.T) {
	_, secret := outside(t)
	path := filepath.Join(secret, "file")
	root := export(t, hostfs.Config{Path: path})
	file, err := root.Walk("file")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two and more"} {
		os.WriteFile(path+".tmp", []byte(text), 0o644)
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
		a, err := file.Getattr(p9.AttrAll)
		if err != nil || a.Size != uint64(len(text)) {
			t.Errorf("size = %d, %v", a.Size, err)
		}
		f := clone(t, file)
		if err := f.Open(linux.ORdonly); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		n, err := f.ReadAt(b, 0)
		if err != nil || string(b[:n]) != text {
			t.Errorf("contents = %q, %v; want %q", b[:n], err, text)
		}
		f.Clunk()
	}
}

func TestOpenNamesThePathThatIsMissing(t *testing.T) {
	_, err := hostfs.Open(hostfs.Config{Path: "/no/such/dir"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/dir") {
		t.Errorf("Open = %v", err)
	}
	if _, err := hostfs.Open(hostfs.Config{Path: "/dev/null"}); err == nil {
		t.Error("a device can be exported")
	}
}

func TestHandlesOfIdleFilesAreBounded(t *testing.T) {
	share, _ := outside(t)
	fs, err := hostfs.Open(hostfs.Config{Path: share, Handles: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	node := fs.Root()
	defer node.Release()
	root := p9test.Attach(t, &p9srv.Server{Root: node}, 0)
	at := root
	var all []*p9client.FID
	for range 200 {
		if _, err := at.Mkdir("d", 0o755, 0); err != nil {
			t.Fatal(err)
		}
		if at, err = at.Walk("d"); err != nil {
			t.Fatal(err)
		}
		all = append(all, at)
	}
	for i := range all {
		if _, err := all[len(all)-1-i].Getattr(p9.AttrAll); err != nil {
			t.Fatal(err)
		}
		if _, err := all[i].Walk("no"); !errors.Is(err, linux.ENOENT) {
			t.Fatal(err)
		}
	}
	if n := fs.OpenHandles(); n > 21 {
		t.Errorf("%d handles are open, 20 were allowed", n)
	}
}
