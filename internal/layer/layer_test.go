// SPDX-License-Identifier: Apache-2.0

package layer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"byre.dev/byre/internal/layer"
)

var stamp = time.Date(2024, 2, 29, 12, 30, 0, 0, time.UTC)

// member is one entry of a test archive.
type member struct {
	tar.Header
	body string
}

func dir(name string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func file(name, body string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, body}
}

func link(name, target string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

func symlink(name, target string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, ""}
}

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		h.Size = int64(len(m.body))
		if h.ModTime.IsZero() {
			h.ModTime = stamp
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// convert makes an image and checks it with e2fsck.
func convert(t *testing.T, b []byte) (string, layer.Info) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := layer.Convert(f, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	check(t, f.Name())
	return f.Name(), info
}

func check(t *testing.T, image string) {
	t.Helper()
	e2fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		t.Fatal("e2fsck is needed: install e2fsprogs")
	}
	if out, err := exec.Command(e2fsck, "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// debugfs runs one request on an image, as a reader that is not ours.
func debugfs(t *testing.T, image, request string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", request, image).Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", request, err)
	}
	return string(out)
}

// names lists a directory of an image without "." and "..".
func names(t *testing.T, image, dir string) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(debugfs(t, image, "ls -p "+dir)) {
		f := strings.Split(line, "/")
		if len(f) > 5 && f[5] != "." && f[5] != ".." && f[5] != "" {
			list = append(list, f[5]+" "+f[2])
		}
	}
	return list
}

func TestConvertKeepsWhatALayerHolds(t *testing.T) {
	long := strings.Repeat("long/", 40) + "name"
	caps := file("bin/ping", "#!")
	caps.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	owner := file("owner", "x")
	owner.Uid, owner.Gid, owner.Mode = 100000, 70000, 0o4711
	nano := file("nano", "n")
	nano.ModTime, nano.Format = stamp.Add(123456789), tar.FormatPAX
	image, info := convert(t, archive(t,
		dir("./"), dir("bin/"), caps, owner, nano, file(long, "deep"),
		link("bin/ping4", "bin/ping"), symlink("lib", "usr/lib"), symlink("far", strings.Repeat("f", 300)),
		member{tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		member{tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
		file("/absolute", "rooted"), file("empty", ""),
	))
	if info.TarSize == 0 || info.DiffID == "" {
		t.Errorf("info = %+v", info)
	}
	want := []string{"bin 040755", "owner 104711", "nano 100644", "long 040755", "lib 120777", "far 120777",
		"null 020666", "pipe 010600", "absolute 100644", "empty 100644"}
	if d := cmp.Diff(want, names(t, image, "/")); d != "" {
		t.Errorf("root directory (-want +got):\n%s", d)
	}
	if got := debugfs(t, image, "cat "+long); got != "deep" {
		t.Errorf("contents of the long name = %q", got)
	}
	if got := debugfs(t, image, "ea_get bin/ping4 security.capability"); !strings.Contains(got, "(20)") {
		t.Errorf("capability of the hard link = %q", got)
	}
	if got := debugfs(t, image, "stat owner"); !strings.Contains(got, "User: 100000   Group: 70000") ||
		strings.Count(got, "Thu Feb 29") < 3 && strings.Count(got, "2024") < 3 {
		t.Errorf("owner and times = %s", got)
	}
}

func TestConvertIsReproducible(t *testing.T) {
	b := archive(t, dir("d"), file("d/a", "1"), file(".wh.x", ""), file("d/.wh..wh..opq", ""), file(".wh.y", ""))
	first, a := convert(t, b)
	second, z := convert(t, gzipped(t, b))
	third, s := convert(t, zstded(t, b))
	if a.DiffID != digest.FromBytes(b) || z.DiffID != a.DiffID || s.DiffID != a.DiffID {
		t.Errorf("diffIDs %s %s %s, want %s", a.DiffID, z.DiffID, s.DiffID, digest.FromBytes(b))
	}
	if x, y, z := sum(t, first), sum(t, second), sum(t, third); x != y || x != z {
		t.Errorf("images differ: %s %s %s", x, y, z)
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func TestWhiteoutsBecomeThoseOfOverlayfs(t *testing.T) {
	image, _ := convert(t, archive(t,
		file(".wh.gone", ""), file("etc/.wh.passwd", ""),
		// The marker comes before its directory, and removed things come back.
		file("opaque/.wh..wh..opq", ""), dir("opaque"), file("opaque/new", ""),
		file(".wh.redone", ""), dir("redone"), file(".wh.back", ""), file("back", "again"),
		file(".wh..wh.plnk", ""),
	))
	want := []string{"opaque 040755", "redone 040755", "back 100644", "etc 040755", "gone 020000"}
	if d := cmp.Diff(want, names(t, image, "/")); d != "" {
		t.Errorf("root directory (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"passwd 020000"}, names(t, image, "/etc")); d != "" {
		t.Errorf("etc (-want +got):\n%s", d)
	}
	for _, dir := range []string{"opaque", "redone"} {
		if got := debugfs(t, image, "ea_get "+dir+" trusted.overlay.opaque"); !strings.Contains(got, `"y"`) {
			t.Errorf("%s is not opaque: %q", dir, got)
		}
	}
	if got := debugfs(t, image, "stat gone"); !strings.Contains(got, "(New-style) 00:00") && !strings.Contains(got, "00:00") {
		t.Errorf("whiteout is no 0:0 device: %s", got)
	}
}

func TestImageHasNoLostFoundOfItsOwn(t *testing.T) {
	image, _ := convert(t, archive(t, file("a", "1")))
	if d := cmp.Diff([]string{"a 100644"}, names(t, image, "/")); d != "" {
		t.Errorf("without one (-want +got):\n%s", d)
	}
	image, _ = convert(t, archive(t, dir("lost+found"), file("lost+found/x", "1")))
	if d := cmp.Diff([]string{"lost+found 040755"}, names(t, image, "/")); d != "" {
		t.Errorf("the layer's own (-want +got):\n%s", d)
	}
	image, _ = convert(t, archive(t, file(".wh.lost+found", ""), file("a", "")))
	if d := cmp.Diff([]string{"lost+found 020000", "a 100644"}, names(t, image, "/")); d != "" {
		t.Errorf("removed by the layer (-want +got):\n%s", d)
	}
	image, _ = convert(t, archive(t))
	if got := names(t, image, "/"); len(got) != 0 {
		t.Errorf("the empty layer holds %v", got)
	}
}

func TestBadLayersAreRefusedWithTheReason(t *testing.T) {
	good := gzipped(t, archive(t, file("a", strings.Repeat("abc", 100000))))
	corrupt := bytes.Clone(good)
	corrupt[len(corrupt)/2] ^= 0xff
	many := archive(t, file("a", strings.Repeat("x", 5000)))
	dev := member{tar.Header{Name: "a", Typeflag: tar.TypeBlock, Devmajor: 8}, ""}
	for _, c := range []struct {
		name string
		in   []byte
		kind error
		text string
	}{
		{"not a tar", []byte(strings.Repeat("this is a text file\n", 100)), layer.ErrFormat, "not a tar archive"},
		{"truncated gzip", good[:len(good)/2], layer.ErrFormat, "gzip stream is truncated"},
		{"truncated gzip header", good[:5], layer.ErrFormat, "gzip stream is truncated"},
		{"corrupt gzip", corrupt, layer.ErrFormat, "gzip stream"},
		{"truncated zstd", zstded(t, many)[:40], layer.ErrFormat, "zstd stream is truncated"},
		{"truncated tar", many[:3000], layer.ErrFormat, "truncated"},
		{"name leading out", archive(t, file("../../etc/passwd", "x")), layer.ErrEntry, "leads out of the layer"},
		{"name leading out and in", archive(t, file("a/../b", "x")), layer.ErrEntry, "leads out of the layer"},
		{"hard link leading out", archive(t, link("a", "../../etc/shadow")), layer.ErrEntry, "leads out of the layer"},
		{"hard link to nothing", archive(t, link("a", "b")), layer.ErrEntry, "not a file of this layer"},
		{"device where a file was", archive(t, file("a", "x"), dev), layer.ErrEntry, "a device replaces a file"},
		{"directory where a file was", archive(t, file("a", "x"), dir("a")), layer.ErrEntry, "a directory replaces a file"},
		{"file in a device", archive(t, dev, file("a/b", "x")), layer.ErrEntry, "a is a device, not a directory"},
		{"file through a symlink", archive(t, symlink("etc", "/etc"), file("etc/passwd", "x")), layer.ErrEntry, "not a directory"},
		{"whiteout without a name", archive(t, file(".wh.", "")), layer.ErrEntry, "whiteout without a name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "x"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, err = layer.Convert(f, bytes.NewReader(c.in))
			if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("err = %v, want %v with %q", err, c.kind, c.text)
			}
		})
	}
}

func open(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCacheConvertsALayerOnce(t *testing.T) {
	dir := t.TempDir()
	c, err := layer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := archive(t, file("a", strings.Repeat("x", 1<<20)))
	id := digest.FromBytes(b)
	var mu sync.Mutex
	opened := 0
	counting := func() (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		opened++
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, release, err := c.Put(t.Context(), id, counting); err != nil {
				t.Error(err)
			} else {
				release()
			}
		})
	}
	wg.Wait()
	if opened != 1 || entries(t, dir) != 1 {
		t.Errorf("opened %d times, %d files", opened, entries(t, dir))
	}
	check(t, c.Path(id))
}

func TestLastOfAFileCounts(t *testing.T) {
	c, err := layer.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := archive(t, file("a", "first"), file("b", "one"), symlink("b", "target"), dir("d"), file("d/x", "1"),
		file("./a", "second"), file("/d/x", "2"), link("hard", "a"))
	info, release, err := c.Put(t.Context(), digest.FromBytes(b), open(b))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	image := c.Path(info.DiffID)
	check(t, image)
	for name, want := range map[string]string{"a": "second", "d/x": "2", "hard": "second"} {
		if got := debugfs(t, image, "cat "+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if d := cmp.Diff([]string{"b 120777", "d 040755", "a 100644", "hard 100644"}, names(t, image, "/")); d != "" {
		t.Errorf("root directory (-want +got):\n%s", d)
	}

	// The link names contents that are no longer there when it is made.
	b = archive(t, file("a", "first"), link("hard", "a"), file("a", "second"))
	if _, _, err := c.Put(t.Context(), "", open(b)); !errors.Is(err, layer.ErrEntry) {
		t.Errorf("hard link to a replaced file: %v", err)
	}
}

func TestCacheLeavesNothingOfAFailedConversion(t *testing.T) {
	dir := t.TempDir()
	c, err := layer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := archive(t, file("a", "x"))
	if _, _, err := c.Put(t.Context(), digest.FromString("other"), open(b)); !errors.Is(err, layer.ErrFormat) {
		t.Errorf("wrong digest: %v", err)
	}
	if _, _, err := c.Put(t.Context(), "", open([]byte("no tar, no tar, no tar"))); !errors.Is(err, layer.ErrFormat) {
		t.Errorf("no tar: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Put(ctx, "", open(b)); !errors.Is(err, context.Canceled) || errors.Is(err, layer.ErrFormat) {
		t.Errorf("given up: %v", err)
	}
	if n := entries(t, dir); n != 0 {
		t.Errorf("%d files left behind", n)
	}
}

func TestOpenRemovesUnfinishedImages(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "sha256", ".new-1234")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := layer.Open(dir); err != nil {
		t.Fatal(err)
	}
	if n := entries(t, dir); n != 0 {
		t.Errorf("%d files left behind", n)
	}
}

func TestRetainKeepsUsedAndPinnedImages(t *testing.T) {
	dir := t.TempDir()
	c, err := layer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ids []digest.Digest
	var pins []func()
	for i := range 3 {
		info, release, err := c.Put(t.Context(), "", open(archive(t, file(fmt.Sprint(i), ""))))
		if err != nil {
			t.Fatal(err)
		}
		ids, pins = append(ids, info.DiffID), append(pins, release)
	}
	pins[0]()
	pins[2]()
	used := func() (map[digest.Digest]struct{}, error) {
		return map[digest.Digest]struct{}{ids[0]: {}}, nil
	}
	if n, err := c.Retain(used); err != nil || n != 1 {
		t.Errorf("removed %d, %v", n, err)
	}
	for i, want := range []bool{true, true, false} {
		release, ok := c.Get(ids[i])
		if ok != want {
			t.Errorf("image %d there: %v, want %v", i, ok, want)
		}
		if ok {
			release()
		}
	}
}
