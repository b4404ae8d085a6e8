// SPDX-License-Identifier: Apache-2.0

package ctrd_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/image-spec/identity"

	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/lockfile"
)

// config is a containerd below the test's directory, with a small template.
func config(t testing.TB) ctrd.Config {
	t.Helper()
	dir := t.TempDir()
	template := filepath.Join(dir, "template.ext4")
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", template, "64M").CombinedOutput()
	if err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if err := disk.Create(disk.SeedOf(template), disk.SeedSize); err != nil {
		t.Fatal(err)
	}
	return ctrd.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), Template: template,
		Log: slog.New(slog.NewTextHandler(&testWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// testWriter sends a log to the test's.
type testWriter struct{ t testing.TB }

func (w *testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

func start(t testing.TB, cfg ctrd.Config) *ctrd.Server {
	t.Helper()
	s, err := ctrd.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func byre(t testing.TB) context.Context {
	return namespaces.WithNamespace(t.Context(), ctrd.Namespace)
}

// tarLayer makes a layer of files.
func tarLayer(t testing.TB, files map[string]string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range sortedKeys(files) {
		h := &tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[n]))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[n])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i + 1; j < len(keys); j++ {
			if keys[j] < keys[i] {
				keys[i], keys[j] = keys[j], keys[i]
			}
		}
	}
	return keys
}

// testImage is busybox in one layer and a change in another.
func testImage(t testing.TB) v1.Image {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	return appendLayers(t, tarLayer(t, map[string]string{"bin/busybox": string(busybox), "etc/old": "1"}),
		tarLayer(t, map[string]string{"etc/.wh.old": "", "etc/new": "2"}))
}

func appendLayers(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", goarch
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// newRegistry is a registry that, as real ones do, takes a range without an end;
// the library's own refuses it.
func newRegistry() http.Handler {
	inner := registry.New(registry.Logger(discardLog()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, ok := strings.CutSuffix(r.Header.Get("Range"), "-"); ok {
			head := httptest.NewRecorder()
			inner.ServeHTTP(head, httptest.NewRequestWithContext(r.Context(), http.MethodHead, r.URL.Path, nil))
			size, _ := strconv.Atoi(head.Header().Get("Content-Length"))
			r.Header.Set("Range", fmt.Sprintf("%s-%d", from, size-1))
		}
		inner.ServeHTTP(w, r)
	})
}

// serve puts an image into a registry on loopback and returns its reference.
func serve(t testing.TB, img v1.Image) string {
	t.Helper()
	srv := httptest.NewServer(newRegistry())
	t.Cleanup(srv.Close)
	ref := strings.TrimPrefix(srv.URL, "http://") + "/test/busybox:latest"
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return ref
}

func resolver() client.RemoteOpt {
	return client.WithResolver(docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost)),
	}))
}

func pull(t testing.TB, s *ctrd.Server, ref string) client.Image {
	t.Helper()
	img, err := s.Client().Pull(byre(t), ref, resolver(), client.WithPullUnpack)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// chainID is the name of an image's top snapshot.
func chainID(t testing.TB, img client.Image) string {
	t.Helper()
	ids, err := img.RootFS(byre(t))
	if err != nil {
		t.Fatal(err)
	}
	return identity.ChainID(ids).String()
}

// layerImages lists the files of the layer cache.
func layerImages(t testing.TB, cfg ctrd.Config) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(cfg.Root, "io.containerd.snapshotter.v1.byre", "layers", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPulledImageIsLayersAndAScratchDisk(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	ctx := byre(t)
	ref := serve(t, testImage(t))
	img := pull(t, s, ref)
	if ok, err := img.IsUnpacked(ctx, ctrd.Snapshotter); err != nil || !ok {
		t.Fatalf("unpacked: %v, %v", ok, err)
	}
	sn := s.Client().SnapshotService(ctrd.Snapshotter)
	mounts, err := sn.Prepare(ctx, "c1", chainID(t, img))
	if err != nil {
		t.Fatal(err)
	}
	images := layerImages(t, cfg)
	if len(images) != 2 {
		t.Fatalf("layer images: %v", images)
	}
	ids, _ := img.RootFS(ctx)
	base := filepath.Join(cfg.Root, "io.containerd.snapshotter.v1.byre")
	layer := func(i int) string { return filepath.Join(base, "layers", "sha256", ids[i].Encoded()+".ext4") }
	want := []mount.Mount{
		{Type: "ext4", Source: mounts[0].Source, Options: []string{"rw", "loop"}},
		{Type: "ext4", Source: layer(1), Options: []string{"ro", "loop"}},
		{Type: "ext4", Source: layer(0), Options: []string{"ro", "loop"}},
		{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
			"X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
			"X-containerd.mkdir.path={{ mount 0 }}/work:0755",
			"workdir={{ mount 0 }}/work",
			"upperdir={{ mount 0 }}/upper",
			"lowerdir={{ overlay 1 2 }}",
		}},
	}
	if d := cmp.Diff(want, mounts); d != "" {
		t.Errorf("mounts (-want +got):\n%s", d)
	}
	if st, err := os.Stat(mounts[0].Source); err != nil || st.Size() != 64<<20 {
		t.Errorf("scratch disk: %v", err)
	}
	usage, err := sn.Usage(ctx, "c1")
	if err != nil || usage.Size > 8<<20 {
		t.Errorf("a fresh scratch disk takes %d bytes, %v", usage.Size, err)
	}
}

func TestRemovedImageGivesItsDisksBack(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	ctx := byre(t)
	img := pull(t, s, serve(t, testImage(t)))
	sn := s.Client().SnapshotService(ctrd.Snapshotter)
	if _, err := sn.Prepare(ctx, "c1", chainID(t, img), snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": time.Now().Format(time.RFC3339),
	})); err != nil {
		t.Fatal(err)
	}
	if err := s.Client().ImageService().Delete(ctx, img.Name(), images.SynchronousDelete()); err != nil {
		t.Fatal(err)
	}
	if n := len(layerImages(t, cfg)); n != 2 {
		t.Errorf("%d layer images under a container", n)
	}
	if err := sn.Remove(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(layerImages(t, cfg)) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if list := layerImages(t, cfg); len(list) != 0 {
		t.Errorf("left after removal: %v", list)
	}
}

func TestSecondImageConvertsOnlyItsOwnLayers(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	base := tarLayer(t, map[string]string{"base": strings.Repeat("b", 1<<16)})
	pull(t, s, serve(t, appendLayers(t, base)))
	before := layerImages(t, cfg)
	st, err := os.Stat(before[0])
	if err != nil {
		t.Fatal(err)
	}
	// The shared layer has another parent here, so another chain.
	img := pull(t, s, serve(t, appendLayers(t, tarLayer(t, map[string]string{"a": "1"}), base)))
	if n := len(layerImages(t, cfg)); n != 2 {
		t.Errorf("%d layer images, want 2", n)
	}
	after, err := os.Stat(before[0])
	if err != nil || !os.SameFile(st, after) || !st.ModTime().Equal(after.ModTime()) {
		t.Errorf("the shared layer was made again: %v", err)
	}
	mounts, err := s.Client().SnapshotService(ctrd.Snapshotter).View(byre(t), "v", chainID(t, img))
	if err != nil || len(mounts) != 3 || mounts[0].Source != before[0] {
		t.Errorf("view = %v, %v", mounts, err)
	}
}

func TestImportedImageUnpacks(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	ctx := byre(t)
	tag, err := name.NewTag("test/imported:v1")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, testImage(t), &b); err != nil {
		t.Fatal(err)
	}
	list, err := s.Client().Import(ctx, &b)
	if err != nil || len(list) != 1 {
		t.Fatalf("import: %v, %v", list, err)
	}
	img := client.NewImage(s.Client(), list[0])
	for range 2 {
		if err := img.Unpack(ctx, ctrd.Snapshotter); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Client().SnapshotService("").View(ctx, "v", chainID(t, img)); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := s.Client().Export(ctx, &out, archive.WithImage(s.Client().ImageService(), img.Name())); err != nil {
		t.Errorf("export: %v", err)
	}
}

func TestSecondDaemonOnOneRootIsToldAtOnce(t *testing.T) {
	cfg := config(t)
	start(t, cfg)
	begin := time.Now()
	_, err := ctrd.Start(t.Context(), cfg)
	if !errors.Is(err, lockfile.ErrHeld) || !strings.Contains(err.Error(), cfg.Root) {
		t.Errorf("err = %v", err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("it took %v to say so", d)
	}
}

func TestRestartKeepsImagesAndSnapshots(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	img := pull(t, s, serve(t, testImage(t)))
	id := chainID(t, img)
	sn := s.Client().SnapshotService(ctrd.Snapshotter)
	want, err := sn.Prepare(byre(t), "c1", id, snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	got, err := s.Client().SnapshotService(ctrd.Snapshotter).Mounts(byre(t), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("mounts after a restart (-want +got):\n%s", d)
	}
	if _, err := s.Client().GetImage(byre(t), img.Name()); err != nil {
		t.Error(err)
	}
}

func TestSocketsAreTheirOwnersAlone(t *testing.T) {
	s := start(t, config(t))
	st, err := os.Stat(s.Address())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", st.Mode(), err)
	}
	dir, err := os.Stat(filepath.Dir(s.Address()))
	if err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v, %v", dir.Mode(), err)
	}
}

func TestDefaultsAreThoseOfTheNamespace(t *testing.T) {
	s := start(t, config(t))
	labels, err := s.Client().NamespaceService().Labels(t.Context(), ctrd.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"containerd.io/defaults/snapshotter": "byre",
		"containerd.io/defaults/runtime":     "io.containerd.byre.v1",
	}
	if d := cmp.Diff(want, labels); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
}

func TestDamagedLayerLeavesTheStoreIntact(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	ctx := byre(t)
	bad, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(strings.Repeat("no tar archive, ", 100))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Client().Pull(ctx, serve(t, appendLayers(t, bad)), resolver(), client.WithPullUnpack)
	if err == nil || !strings.Contains(err.Error(), "not a tar archive") {
		t.Errorf("err = %v", err)
	}
	if list := layerImages(t, cfg); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
	_, err = s.Client().Pull(ctx, "localhost:1/no/such:image", resolver(), client.WithPullUnpack)
	if err == nil || !strings.Contains(err.Error(), "localhost:1") {
		t.Errorf("unreachable registry: %v", err)
	}
	pull(t, s, serve(t, testImage(t)))
}

func TestCommitOfAScratchDiskIsRefusedByName(t *testing.T) {
	s := start(t, config(t))
	ctx, done, err := s.Client().WithLease(byre(t), leases.WithRandomID())
	if err != nil {
		t.Fatal(err)
	}
	defer done(ctx)
	sn := s.Client().SnapshotService(ctrd.Snapshotter)
	mounts, err := sn.Prepare(ctx, "c1", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := sn.Commit(ctx, "x", "c1"); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "guest") {
		t.Errorf("commit: %v", err)
	}
	if _, err := s.Client().DiffService().Compare(ctx, nil, mounts); !errdefs.IsNotImplemented(err) {
		t.Errorf("compare: %v", err)
	}
	for v, want := range map[string]func(error) bool{"1": errdefs.IsInvalidArgument, "x": errdefs.IsInvalidArgument} {
		_, err := sn.Prepare(ctx, "size "+v, "", snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotMaxSize: v}))
		if !want(err) {
			t.Errorf("size %q: %v", v, err)
		}
	}
	if _, err := sn.Prepare(ctx, "big", "", snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotMaxSize: fmt.Sprint(1 << 30),
	})); err != nil {
		t.Error(err)
	}
}
