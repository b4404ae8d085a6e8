// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guest/archive"
	"byre.dev/byre/internal/testenv"
)

// container is a root with a neighbor that nothing may reach.
func container(t *testing.T) (root *archive.Root, dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "root"), filepath.Join(top, "outside")
	for _, d := range []string{dir, outside, filepath.Join(dir, "etc"), filepath.Join(dir, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(outside, "secret"), "outside")
	write(t, filepath.Join(dir, "etc", "passwd"), "inside")
	root, err := archive.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir, outside
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// read returns the entries of an archive, those of files with their content.
func read(t *testing.T, root *archive.Root, path string) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := root.Read(&b, path); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(tr)
		got[h.Name] = string(h.Typeflag) + h.Linkname + string(content)
	}
}

func pack(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		text := "of the archive"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(text))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(tw, text)
		}
	}
	tw.Close()
	return &b
}

func TestReadNamesEntriesBelowTheLastComponent(t *testing.T) {
	root, dir, _ := container(t)
	write(t, filepath.Join(dir, "data", "one"), "1")
	if err := os.Link(filepath.Join(dir, "data", "one"), filepath.Join(dir, "data", "two")); err != nil {
		t.Fatal(err)
	}
	symlink(t, "one", filepath.Join(dir, "data", "way"))
	if err := syscall.Mkfifo(filepath.Join(dir, "data", "queue"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, prefix := range map[string]string{"/data": "data/", "data": "data/", "/data/.": "./", "/etc/../data": "data/"} {
		got := read(t, root, path)
		want := map[string]string{prefix: "5", prefix + "one": "01", prefix + "two": "1" + prefix + "one", prefix + "way": "2one", prefix + "queue": "6"}
		for name, entry := range want {
			if got[name] != entry {
				t.Errorf("%s: entry %s is %q, want %q", path, name, got[name], entry)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: entries %v", path, got)
		}
	}
}

func TestTheRootsEntriesBeginWithASlash(t *testing.T) {
	root, _, _ := container(t)
	for path, want := range map[string]string{"/": "/etc/passwd", "//": "/etc/passwd", "/.": "./etc/passwd", ".": "./etc/passwd", "/./": "./etc/passwd"} {
		if got := read(t, root, path); got[want] != "0inside" {
			t.Errorf("%s: entries %v, want %s", path, got, want)
		}
	}
}

func TestSymlinksStayInTheRoot(t *testing.T) {
	root, dir, outside := container(t)
	for name, target := range map[string]string{"abs": outside, "up": "../../outside", "loop": "loop", "in": "/etc"} {
		symlink(t, target, filepath.Join(dir, name))
	}
	for _, way := range []string{"abs", "up"} {
		if err := root.Read(io.Discard, way+"/secret"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read by %s: %v", way, err)
		}
		if err := root.Write(pack(t, tar.Header{Name: "new", Typeflag: tar.TypeReg}), way, archive.WriteOptions{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("write by %s: %v", way, err)
		}
	}
	if got := read(t, root, "in/passwd"); got["passwd"] != "0inside" {
		t.Errorf("read through a link of the container's: %v", got)
	}
	info, err := root.Stat("/abs")
	if err != nil || info.Mode&fs.ModeSymlink == 0 || info.LinkTarget != outside {
		t.Errorf("stat of a link: %+v, %v", info, err)
	}
	if list, _ := os.ReadDir(outside); len(list) != 1 {
		t.Errorf("outside there is %v", list)
	}
}

func TestWriteKeepsWhatTheArchiveSays(t *testing.T) {
	testenv.NeedRoot(t, "give files to others")
	root, dir, _ := container(t)
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	headers := []tar.Header{
		{Name: "sub/", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: when},
		{Name: "sub/tool", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 12, Gid: 34, ModTime: when, Format: tar.FormatPAX},
		{Name: "sub/same", Typeflag: tar.TypeLink, Linkname: "sub/tool"},
		{Name: "sub/way", Typeflag: tar.TypeSymlink, Linkname: "/nowhere"},
		{Name: "made/for/it", Typeflag: tar.TypeReg},
	}
	if err := root.Write(pack(t, headers...), "/data", archive.WriteOptions{CopyUIDGID: true}); err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(dir, "data", "sub", "tool")
	fi, err := os.Lstat(tool)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	if st.Uid != 12 || st.Gid != 34 || fi.Mode() != 0o755|fs.ModeSetuid || !fi.ModTime().Equal(when) || st.Nlink != 2 {
		t.Errorf("owner %d:%d mode %v time %v links %d", st.Uid, st.Gid, fi.Mode(), fi.ModTime(), st.Nlink)
	}
	sub, err := os.Lstat(filepath.Dir(tool))
	if err != nil || !sub.ModTime().Equal(when.Truncate(time.Second)) || sub.Mode() != 0o777|fs.ModeDir|fs.ModeSticky {
		t.Errorf("directory: %v %v, %v", sub.Mode(), sub.ModTime(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "made", "for", "it")); err != nil {
		t.Error(err)
	}
	if err := root.Write(pack(t, headers[:2]...), "/data", archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Lstat(tool); fi.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Error("without CopyUIDGID the owner of the archive is kept")
	}
}

func TestHostileArchivesStayInTheirDirectory(t *testing.T) {
	root, dir, outside := container(t)
	symlink(t, outside, filepath.Join(dir, "data", "out"))
	owner := os.Geteuid() == 0
	for name, headers := range map[string][]tar.Header{
		"dots":                   {{Name: "../../etc/passwd2", Typeflag: tar.TypeReg}},
		"absolute":               {{Name: "/etc/passwd3", Typeflag: tar.TypeReg}},
		"through its own link":   {{Name: "way", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "way/new", Typeflag: tar.TypeReg}},
		"through a link there":   {{Name: "out/new", Typeflag: tar.TypeReg}},
		"hard link to outside":   {{Name: "stolen", Typeflag: tar.TypeLink, Linkname: "../../outside/secret"}},
		"hard link by a symlink": {{Name: "stolen2", Typeflag: tar.TypeLink, Linkname: "out/secret"}},
		"a file as the top":      {{Name: ".", Typeflag: tar.TypeReg}},
		"an unknown type":        {{Name: "x", Typeflag: 'Z'}},
	} {
		if !owner && name != "a file as the top" {
			continue
		}
		err := root.Write(pack(t, headers...), "/data", archive.WriteOptions{})
		t.Logf("%s: %v", name, err)
		if (name == "a file as the top" || name == "an unknown type") && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "etc", "passwd")); string(b) != "inside" {
		t.Errorf("/etc/passwd holds %q", b)
	}
	list, _ := os.ReadDir(filepath.Join(dir, "etc"))
	far, _ := os.ReadDir(outside)
	if len(list) != 1 || len(far) != 1 {
		t.Errorf("/etc has %v, outside there is %v", list, far)
	}
	for _, name := range []string{"stolen", "stolen2"} {
		if b, err := os.ReadFile(filepath.Join(dir, "data", name)); err == nil {
			t.Errorf("%s holds %q", name, b)
		}
	}
	if err := root.Write(strings.NewReader("no tar at all, but long enough to be looked at"+strings.Repeat(" ", 600)), "/data", archive.WriteOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no tar: %v", err)
	}
}

func TestDirectoriesAndFilesReplaceEachOtherUnlessForbidden(t *testing.T) {
	testenv.NeedRoot(t, "give files to root")
	root, dir, _ := container(t)
	at := filepath.Join(dir, "data", "x")
	file, folder := tar.Header{Name: "x", Typeflag: tar.TypeReg}, tar.Header{Name: "x/", Typeflag: tar.TypeDir, Mode: 0o755}
	if err := os.MkdirAll(filepath.Join(at, "deep", "deeper"), 0o755); err != nil {
		t.Fatal(err)
	}
	symlink(t, dir+"/etc", filepath.Join(at, "link"))
	forbid := archive.WriteOptions{NoOverwriteDirNonDir: true}
	if err := root.Write(pack(t, file), "/data", forbid); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot overwrite directory with non-directory") {
		t.Errorf("file over a directory: %v", err)
	}
	if err := root.Write(pack(t, file), "/data", archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(at); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("after a file over a directory: %v, %v", fi, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc", "passwd")); err != nil {
		t.Errorf("what a link in the directory led to: %v", err)
	}
	if err := root.Write(pack(t, folder), "/data", forbid); !errdefs.IsInvalidArgument(err) {
		t.Errorf("directory over a file: %v", err)
	}
	if err := root.Write(pack(t, folder), "/data", archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(at); err != nil || !fi.IsDir() {
		t.Errorf("after a directory over a file: %v, %v", fi, err)
	}
}

func TestTheWholeRootIsReadRelativeToIt(t *testing.T) {
	root, _, _ := container(t)
	var b bytes.Buffer
	if err := root.ReadAll(&b); err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "data/ etc/ etc/passwd" {
		t.Errorf("entries %q", got)
	}
}
