// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/snapshot"
)

// world is a snapshotter with its differ and the layers it can read.
type world struct {
	*snapshot.Snapshotter
	*snapshot.Differ
	root  string
	blobs provider
}

// provider holds blobs by digest.
type provider map[digest.Digest][]byte

func (p provider) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	b, ok := p[d.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, errdefs.ErrNotFound)
	}
	return readerAt{bytes.NewReader(b)}, nil
}

type readerAt struct{ *bytes.Reader }

func (readerAt) Close() error { return nil }

func (p provider) put(b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b), Size: int64(len(b))}
	p[d.Digest] = b
	return d
}

func open(t *testing.T, root string) world {
	t.Helper()
	template := filepath.Join(root, "..", "template.ext4")
	if _, err := os.Stat(template); err != nil {
		if out, err := exec.Command("mkfs.ext4", "-q", "-F", template, "32M").CombinedOutput(); err != nil {
			t.Fatalf("mkfs.ext4: %v\n%s", err, out)
		}
	}
	sn, err := snapshot.New(t.Context(), snapshot.Config{Root: root, Template: template})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sn.Close() })
	blobs := provider{}
	return world{sn, snapshot.NewDiffer(sn, blobs), root, blobs}
}

func newWorld(t *testing.T) world { return open(t, filepath.Join(t.TempDir(), "root")) }

func archive(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		h := &tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(n))}
		if strings.HasSuffix(n, "/") {
			h.Typeflag, h.Size, h.Mode = tar.TypeDir, 0, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, n)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack commits a layer as the snapshot name, as containerd's unpacker does.
func (w world) unpack(t *testing.T, name, parent string, files ...string) digest.Digest {
	t.Helper()
	desc := w.blobs.put(archive(t, files...))
	labels := snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotRef: name, snapshots.LabelSnapshotDiffID: desc.Digest.String(),
	})
	mounts, err := w.Prepare(t.Context(), "extract "+name, parent, labels)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Apply(t.Context(), desc, mounts)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != desc.Digest {
		t.Fatalf("applied %s, want %s", got.Digest, desc.Digest)
	}
	if err := w.Commit(t.Context(), name, "extract "+name); err != nil {
		t.Fatal(err)
	}
	return got.Digest
}

// golden writes mounts down with the root as R.
func (w world) golden(mounts []mount.Mount) string {
	var b strings.Builder
	for _, m := range mounts {
		fmt.Fprintf(&b, "%s %s %v\n", m.Type, m.Source, m.Options)
	}
	return strings.ReplaceAll(b.String(), w.root, "R")
}

func TestMountsAreThoseOfThePackageComment(t *testing.T) {
	w := newWorld(t)
	a := w.unpack(t, "a", "", "a").Encoded()
	b := w.unpack(t, "b", "a", "b").Encoded()
	c := w.unpack(t, "c", "b", "c").Encoded()
	empty := digest.FromBytes(make([]byte, 1024)).Encoded()
	rw := "ext4 R/snapshots/%d/scratch.ext4 [rw loop]\n"
	ro := "ext4 R/layers/sha256/%s.ext4 [ro loop]\n"
	overlay := "format/mkdir/overlay overlay [X-containerd.mkdir.path={{ mount 0 }}/upper:0755 " +
		"X-containerd.mkdir.path={{ mount 0 }}/work:0755 workdir={{ mount 0 }}/work upperdir={{ mount 0 }}/upper lowerdir=%s]\n"
	for i, test := range []struct {
		name, parent string
		view         bool
		want         string
	}{
		{"container on three layers", "c", false, fmt.Sprintf(rw+ro+ro+ro+overlay, 4, c, b, a, "{{ overlay 1 3 }}")},
		{"container on one layer", "a", false, fmt.Sprintf(rw+ro+overlay, 5, a, "{{ mount 1 }}")},
		{"container on nothing", "", false, fmt.Sprintf(rw, 6) +
			"format/mkdir/bind {{ mount 0 }}/upper [X-containerd.mkdir.path={{ mount 0 }}/upper:0755 rw rbind]\n"},
		{"view of one layer", "a", true, fmt.Sprintf(ro, a)},
		{"view of two layers", "b", true, fmt.Sprintf(ro+ro, b, a) +
			"format/mkdir/overlay overlay [lowerdir={{ overlay 0 1 }}]\n"},
		{"view of nothing", "", true, fmt.Sprintf(ro, empty)},
	} {
		t.Run(test.name, func(t *testing.T) {
			make := w.Prepare
			if test.view {
				make = w.View
			}
			key := fmt.Sprint("k", i)
			mounts, err := make(t.Context(), key, test.parent)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, w.golden(mounts)); d != "" {
				t.Errorf("mounts (-want +got):\n%s", d)
			}
			again, err := w.Mounts(t.Context(), key)
			if d := cmp.Diff(mounts, again); d != "" || err != nil {
				t.Errorf("asked again: %v\n%s", err, d)
			}
		})
	}
}

func TestLayerInTheCacheIsStaged(t *testing.T) {
	w := newWorld(t)
	a := w.unpack(t, "a", "", "a")
	b := w.unpack(t, "b", "", "b")
	labels := snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotRef: "b on a", snapshots.LabelSnapshotDiffID: b.String(),
	})
	mounts, err := w.Prepare(t.Context(), "x", "a", labels)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("ext4 R/layers/sha256/%s.ext4 [ro loop]\next4 R/layers/sha256/%s.ext4 [ro loop]\n"+
		"format/mkdir/overlay overlay [ro lowerdir={{ overlay 0 1 }}]\n", b.Encoded(), a.Encoded())
	if d := cmp.Diff(want, w.golden(mounts)); d != "" {
		t.Errorf("mounts (-want +got):\n%s", d)
	}
	if !mounts[len(mounts)-1].ReadOnly() {
		t.Error("containerd does not take it for staged")
	}
	delete(w.blobs, b)
	got, err := w.Apply(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: b}, mounts)
	if err != nil || got.Digest != b {
		t.Errorf("apply to a staged snapshot: %v, %v", got, err)
	}
	if err := w.Commit(t.Context(), "b on a", "x"); err != nil {
		t.Error(err)
	}
}

func TestParallelUnpackSetsTheParentAtCommit(t *testing.T) {
	w := newWorld(t)
	a := w.unpack(t, "a", "", "a")
	desc := w.blobs.put(archive(t, "b"))
	mounts, err := w.Prepare(t.Context(), "x", "", snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotRef: "b", snapshots.LabelSnapshotDiffID: desc.Digest.String(),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(t.Context(), desc, mounts); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), "b", "x", snapshots.WithParent("a")); err != nil {
		t.Fatal(err)
	}
	mounts, err = w.View(t.Context(), "v", "b")
	if err != nil || len(mounts) != 3 || !strings.Contains(mounts[1].Source, a.Encoded()) {
		t.Errorf("view = %v, %v", mounts, err)
	}
}

func TestUsageIsWhatIsAllocated(t *testing.T) {
	w := newWorld(t)
	w.unpack(t, "a", "", "a")
	usage, err := w.Usage(t.Context(), "a")
	if err != nil || usage.Size == 0 || usage.Size > 256<<10 {
		t.Errorf("usage of a layer = %+v, %v", usage, err)
	}
	mounts, err := w.Prepare(t.Context(), "c", "a")
	if err != nil {
		t.Fatal(err)
	}
	before, err := w.Usage(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(mounts[0].Source, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 4<<20), 20<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	after, err := w.Usage(t.Context(), "c")
	if err != nil || after.Size-before.Size < 4<<20 {
		t.Errorf("usage went from %d to %d, %v", before.Size, after.Size, err)
	}
}

// files lists a directory of the snapshotter's.
func (w world) files(t *testing.T, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.root, name))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestRemovedSnapshotsLeaveNothing(t *testing.T) {
	w := newWorld(t)
	shared := w.unpack(t, "a", "", "a")
	w.unpack(t, "b", "a", "b")
	if _, err := w.Prepare(t.Context(), "c", "b"); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(t.Context(), "b"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removal under a child: %v", err)
	}
	for _, key := range []string{"c", "b"} {
		if err := w.Remove(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Remove(t.Context(), "b"); !errdefs.IsNotFound(err) {
		t.Errorf("second removal: %v", err)
	}
	if err := w.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{shared.Encoded() + ".ext4"}, w.files(t, "layers/sha256")); d != "" {
		t.Errorf("layer images (-want +got):\n%s", d)
	}
	if n := len(w.files(t, "snapshots")); n != 1 {
		t.Errorf("%d snapshot directories", n)
	}
}

func TestOpenRemovesWhatAKillLeft(t *testing.T) {
	w := newWorld(t)
	w.unpack(t, "a", "", "a")
	w.Close()
	for _, d := range []string{"new-123", "77"} {
		if err := os.MkdirAll(filepath.Join(w.root, "snapshots", d), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.root, "snapshots", d, "scratch.ext4"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stray := filepath.Join(w.root, "layers", "sha256", digest.FromString("stray").Encoded()+".ext4")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, w.root)
	if d := cmp.Diff([]string{"1"}, again.files(t, "snapshots")); d != "" {
		t.Errorf("snapshots (-want +got):\n%s", d)
	}
	if n := len(again.files(t, "layers/sha256")); n != 1 {
		t.Errorf("%d layer images", n)
	}
	if _, err := again.Prepare(t.Context(), "c", "a"); err != nil {
		t.Error(err)
	}
}

func TestDifferRefusesWhatIsNotItsOwn(t *testing.T) {
	w := newWorld(t)
	desc := w.blobs.put(archive(t, "a"))
	foreign := []mount.Mount{{Type: "bind", Source: "/etc", Options: []string{"rw", "rbind"}}}
	if _, err := w.Apply(t.Context(), desc, foreign); !errdefs.IsNotImplemented(err) {
		t.Errorf("foreign mounts: %v", err)
	}
	traversal := []mount.Mount{{Type: "ext4", Source: w.root + "/snapshots/../../x/scratch.ext4"}}
	if _, err := w.Apply(t.Context(), desc, traversal); !errdefs.IsNotImplemented(err) {
		t.Errorf("mounts elsewhere: %v", err)
	}
	desc.MediaType += "+encrypted"
	if _, err := w.Apply(t.Context(), desc, nil); !errdefs.IsNotImplemented(err) {
		t.Errorf("encrypted layer: %v", err)
	}
	desc.MediaType = "text/plain"
	if _, err := w.Apply(t.Context(), desc, nil); !errdefs.IsNotImplemented(err) {
		t.Errorf("text: %v", err)
	}
}

func TestWrongDiffIDIsRefused(t *testing.T) {
	w := newWorld(t)
	desc := w.blobs.put(archive(t, "a"))
	mounts, err := w.Prepare(t.Context(), "x", "", snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotRef: "x", snapshots.LabelSnapshotDiffID: digest.FromString("other").String(),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(t.Context(), desc, mounts); err == nil || !strings.Contains(err.Error(), desc.Digest.String()) {
		t.Errorf("err = %v", err)
	}
	if n := len(w.files(t, "layers/sha256")); n != 0 {
		t.Errorf("%d layer images left", n)
	}
}

// panicking is a content store with a bug.
type panicking struct{}

func (panicking) ReaderAt(context.Context, ocispec.Descriptor) (content.ReaderAt, error) {
	panic("a bug")
}

func TestPanicIsAnErrorOfItsCall(t *testing.T) {
	w := newWorld(t)
	mounts, err := w.Prepare(t.Context(), "x", "")
	if err != nil {
		t.Fatal(err)
	}
	d := snapshot.NewDiffer(w.Snapshotter, panicking{})
	_, err = d.Apply(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}, mounts)
	if !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("err = %v", err)
	}
	if _, err := w.Mounts(t.Context(), "x"); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

func TestConcurrentUseLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.unpack(t, "base", "", "base")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			key := fmt.Sprint("c", i)
			if _, err := w.Prepare(t.Context(), key, "base"); err != nil {
				t.Error(err)
				return
			}
			if err := w.Cleanup(t.Context()); err != nil {
				t.Error(err)
			}
			mounts, err := w.Mounts(t.Context(), key)
			if err != nil {
				t.Error(err)
				return
			}
			for _, m := range mounts[:2] {
				if _, err := os.Stat(m.Source); err != nil {
					t.Error(err)
				}
			}
			if i%2 == 0 {
				if err := w.Remove(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(w.files(t, "snapshots")); n != 5 {
		t.Errorf("%d snapshots, want 5", n)
	}
}
