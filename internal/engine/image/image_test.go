// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/engine/event"
	"byre.dev/byre/internal/engine/filter"
	"byre.dev/byre/internal/engine/image"
)

// world is a store of images, a registry, and what uses the images.
type world struct {
	*image.Store
	ctx context.Context
	// host is the registry's.
	host string
	// spoil changes what the registry sends of a layer; nil leaves it.
	spoil atomic.Pointer[func([]byte) []byte]
	// slow makes the registry take and give content slowly.
	slow atomic.Bool
	uses []image.Use
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := ctrd.Start(t.Context(), ctrd.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), Template: template,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{ctx: namespaces.WithNamespace(t.Context(), ctrd.Namespace)}
	reg := httptest.NewServer(w.registry())
	t.Cleanup(reg.Close)
	w.host = strings.TrimPrefix(reg.URL, "http://")
	w.Store = image.New(image.Config{
		Client: srv.Client(), Snapshotter: "byre", Events: new(event.Broker),
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Uses:     func() []image.Use { return w.uses },
	})
	return w
}

// registry is one that takes ranges without an end, as real ones do, and spoils
// layers when told to.
func (w *world) registry() http.Handler {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		if w.slow.Load() {
			slow := slowly{rw, r.Body}
			rw, r.Body = slow, slow
		}
		spoil := w.spoil.Load()
		if spoil == nil || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			inner.ServeHTTP(rw, r)
			return
		}
		whole := httptest.NewRecorder()
		inner.ServeHTTP(whole, r)
		body := whole.Body.Bytes()
		if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) { // a layer, not the config
			body = (*spoil)(bytes.Clone(body))
		}
		rw.Header().Set("Content-Type", "application/octet-stream")
		rw.Write(body)
	})
}

// push puts an image of one file into the registry and returns its reference.
func (w *world) push(t *testing.T, repo, file string) string {
	t.Helper()
	return w.pushLayer(t, repo, tarOf(t, file))
}

func tarOf(t *testing.T, file string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	text := strings.Repeat(file, 1000)
	if err := tw.WriteHeader(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(tw, text)
	tw.Close()
	return b.Bytes()
}

func (w *world) pushLayer(t *testing.T, repo string, content []byte) string {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	img = forThisHost(t, img)
	ref := w.host + "/" + repo
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return ref
}

func forThisHost(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// pull pulls and returns what was shown.
func (w *world) pull(ref string) (string, error) {
	var shown strings.Builder
	err := w.Pull(w.ctx, image.PullRequest{Name: ref}, func(m jsonstream.Message) {
		fmt.Fprintln(&shown, m.ID, m.Status)
	})
	return shown.String(), err
}

func (w *world) mustPull(t *testing.T, ref string) image.Image {
	t.Helper()
	if _, err := w.pull(ref); err != nil {
		t.Fatal(err)
	}
	img, err := w.Get(w.ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func (w *world) tags(t *testing.T) []string {
	t.Helper()
	list, err := w.List(w.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	tags := []string{}
	for _, i := range list {
		if len(i.RepoTags) == 0 {
			tags = append(tags, "<none>")
		}
		tags = append(tags, i.RepoTags...)
	}
	slices.Sort(tags)
	return tags
}

func TestPullShowsItsLayersAndNamesTheImage(t *testing.T) {
	w := newWorld(t)
	ref := w.push(t, "one:v1", "file")
	shown, err := w.pull(ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"v1 Pulling from one", "Pulling fs layer", "Download complete", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image for " + ref} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown:\n%s", want, shown)
		}
	}
	img, err := w.Get(w.ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{img.ID(), strings.TrimPrefix(img.ID(), "sha256:")[:12], w.host + "/one@" + img.ID()} {
		if got, err := w.Get(w.ctx, by); err != nil || got.ID() != img.ID() {
			t.Errorf("image by %s: %v, %v", by, got.ID(), err)
		}
	}
	if _, err := w.Get(w.ctx, w.host+"/other@"+img.ID()); !errdefs.IsNotFound(err) {
		t.Errorf("image by the digest in another repository: %v", err)
	}
	if shown, err = w.pull(ref); err != nil || !strings.Contains(shown, "Status: Image is up to date for ") {
		t.Errorf("second pull: %v\n%s", err, shown)
	}
}

func TestPullThatFailsSaysWhyAndLeavesTheStoreIntact(t *testing.T) {
	w := newWorld(t)
	good, bad := w.push(t, "good:v1", "file"), w.push(t, "spoilt:v1", "another")
	noTar := w.pushLayer(t, "notar:v1", []byte(strings.Repeat("no tar archive, ", 100)))
	for _, c := range []struct {
		name, ref string
		spoil     func([]byte) []byte
		want      []string
	}{
		{"registry that is not there", "localhost:1/no/such:v1", nil, []string{"the registry localhost:1 cannot be reached", "see that its name is right"}},
		{"image that is not there", w.host + "/nothing:v1", nil, []string{"manifest for " + w.host + "/nothing:v1 not found"}},
		{"layer of another digest", bad, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, []string{"is not what the image names", "try again"}},
		{"layer that is cut off", bad, func(b []byte) []byte { return b[:len(b)/2] }, []string{"pull " + bad}},
		{"layer that is no tar", noTar, nil, []string{"not a tar archive"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.spoil != nil {
				w.spoil.Store(&c.spoil)
				defer w.spoil.Store(nil)
			}
			_, err := w.pull(c.ref)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("err = %v, want %q in it", err, want)
				}
			}
			if tags := w.tags(t); len(tags) != 0 {
				t.Errorf("images after it: %v", tags)
			}
		})
	}
	w.mustPull(t, good)
	w.mustPull(t, bad)
	if got := w.tags(t); !slices.Equal(got, []string{good, bad}) {
		t.Errorf("images %v", got)
	}
}

func TestNameThatMovesLeavesItsImageWithoutOne(t *testing.T) {
	w := newWorld(t)
	ref := w.push(t, "moving:v1", "first")
	first := w.mustPull(t, ref)
	w.push(t, "moving:v1", "second")
	second := w.mustPull(t, ref)
	if first.ID() == second.ID() {
		t.Fatal("the second pull found the first image")
	}
	if got := w.tags(t); !slices.Equal(got, []string{ref, "<none>"}) {
		t.Errorf("images %v", got)
	}
	if err := w.Tag(w.ctx, first.ID(), "back", "again"); err != nil {
		t.Fatal(err)
	}
	if got := w.tags(t); !slices.Equal(got, []string{ref, "back:again"}) {
		t.Errorf("images after tagging the one without a name: %v", got)
	}
	for _, bad := range [][2]string{{"Upper", ""}, {"x@" + first.ID(), ""}, {"x", "a tag"}} {
		if err := w.Tag(w.ctx, ref, bad[0], bad[1]); !errdefs.IsInvalidArgument(err) {
			t.Errorf("tag %q: %v", bad, err)
		}
	}
	if err := w.Tag(w.ctx, "never-seen", "x", ""); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "No such image: never-seen:latest") {
		t.Errorf("tag of no image: %v", err)
	}
}

func TestImageInUseIsKept(t *testing.T) {
	w := newWorld(t)
	img := w.mustPull(t, w.push(t, "used:v1", "file"))
	ref := img.Tags()[0]
	w.uses = []image.Use{{Container: "0123456789abcdef", Image: img.ID()}}
	for _, by := range []string{ref, img.ID()} {
		if _, err := w.Remove(w.ctx, by, false); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "0123456789ab") {
			t.Errorf("remove by %s while a container uses it: %v", by, err)
		}
	}
	w.uses[0].Running = true
	if _, err := w.Remove(w.ctx, img.ID(), true); !errdefs.IsConflict(err) {
		t.Errorf("remove by force while a container runs it: %v", err)
	}
	if _, err := w.Remove(w.ctx, ref, true); err != nil {
		t.Errorf("take the name from an image that runs: %v", err)
	}
	if got := w.tags(t); !slices.Equal(got, []string{"<none>"}) {
		t.Errorf("images %v", got)
	}
	w.uses = nil
	report, err := w.Prune(w.ctx, nil)
	if err != nil || len(report.ImagesDeleted) != 1 || report.ImagesDeleted[0].Deleted != img.ID() {
		t.Errorf("prune: %+v, %v", report, err)
	}
	if got := w.tags(t); len(got) != 0 {
		t.Errorf("images %v", got)
	}
}

func TestNamesGoOneByOne(t *testing.T) {
	w := newWorld(t)
	img := w.mustPull(t, w.push(t, "named:v1", "file"))
	// Many at once give one new name, as loads of one image do.
	failed := make(chan error, 8)
	for range cap(failed) {
		go func() { failed <- w.Tag(w.ctx, img.ID(), "many", "v1") }() // ends with the call
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Errorf("named by many at once: %v", err)
		}
	}
	if _, err := w.Remove(w.ctx, "many:v1", false); err != nil {
		t.Error(err)
	}
	if err := w.Tag(w.ctx, img.ID(), "other", "v2"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Remove(w.ctx, img.ID(), false); !errdefs.IsConflict(err) {
		t.Errorf("remove by ID of an image in two repositories: %v", err)
	}
	if err := w.Tag(w.ctx, img.ID(), "sha256", "v2"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a name that digests begin with: %v", err)
	}
	if list, err := w.List(w.ctx, filter.Args{"reference": {"docker.io/library/oth*:v?"}}); err != nil || len(list) != 1 {
		t.Errorf("the list by a whole name is %+v, %v", list, err)
	}
	list, err := w.List(w.ctx, filter.Args{"reference": {"other"}})
	if err != nil || len(list) != 1 || len(list[0].RepoTags) != 1 || list[0].RepoTags[0] != "other:v2" {
		t.Errorf("the list by a name is %+v, %v", list, err)
	}
	resp, err := w.Remove(w.ctx, "other:v2", false)
	if err != nil || len(resp) != 1 || resp[0].Untagged != "other:v2" {
		t.Errorf("remove of one name: %+v, %v", resp, err)
	}
	resp, err = w.Remove(w.ctx, img.Tags()[0], false)
	if err != nil || len(resp) != 2 || resp[1].Deleted != img.ID() {
		t.Errorf("remove of the last name: %+v, %v", resp, err)
	}
	if _, err := w.Get(w.ctx, img.ID()); !errdefs.IsNotFound(err) {
		t.Errorf("the image is still found: %v", err)
	}
}

func (w *world) save(t *testing.T, to io.Writer, refs ...string) {
	t.Helper()
	saved, err := w.Save(w.ctx, refs, nil)
	if err == nil {
		err = saved.Write(w.ctx, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSavedImageLoadsAgain(t *testing.T) {
	w := newWorld(t)
	img := w.mustPull(t, w.push(t, "saved:v1", "file"))
	var archive bytes.Buffer
	w.save(t, &archive, img.Tags()[0])
	if _, err := w.Remove(w.ctx, img.Tags()[0], false); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"text": []byte("this is no archive"), "nothing": nil, "half an archive": archive.Bytes()[:archive.Len()/2],
		"a tar of no image": tarOf(t, "file"),
	} {
		if err := w.Load(w.ctx, bytes.NewReader(b), nil, func(jsonstream.Message) {}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("load of %s: %v", name, err)
		}
	}
	if got := w.tags(t); len(got) != 0 {
		t.Errorf("images after bad archives: %v", got)
	}
	var shown string
	if err := w.Load(w.ctx, &archive, nil, func(m jsonstream.Message) { shown += m.Stream }); err != nil {
		t.Fatal(err)
	}
	if shown != "Loaded image: "+img.Tags()[0]+"\n" {
		t.Errorf("shown %q", shown)
	}
	if again, err := w.Get(w.ctx, img.Tags()[0]); err != nil || again.ID() != img.ID() {
		t.Errorf("loaded image: %v, %v", again.ID(), err)
	}
}

func TestAnImageOfAnotherPlatformIsLoadedAndKept(t *testing.T) {
	w := newWorld(t)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarOf(t, "file"))), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", "s390x"
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("foreign:v1")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(w.ctx, &archive, nil, func(jsonstream.Message) {}); err != nil {
		t.Fatal(err)
	}
	if shown, err := w.Inspect(w.ctx, "foreign:v1", nil); err != nil || shown.Architecture != "s390x" {
		t.Errorf("the image is %+v, %v", shown, err)
	}
}
