// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine/image"
)

// layout is an OCI layout in the making.
type layout struct {
	t     *testing.T
	blobs map[string][]byte
}

func (l *layout) blob(mediaType string, b []byte) ocispec.Descriptor {
	if l.blobs == nil {
		l.blobs = map[string][]byte{}
	}
	d := digest.FromBytes(b)
	l.blobs["blobs/sha256/"+d.Encoded()] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (l *layout) json(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, b)
}

// manifest adds an image of one layer for a platform.
func (l *layout) manifest(p ocispec.Platform, layer []byte) ocispec.Descriptor {
	l.t.Helper()
	fs := l.blob(ocispec.MediaTypeImageLayer, layer)
	config := l.json(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{fs.Digest}},
	})
	desc := l.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{fs},
	})
	desc.Platform = &p
	return desc
}

// attest adds a statement about a manifest.
func (l *layout) attest(about ocispec.Descriptor, kind, body string) ocispec.Descriptor {
	l.t.Helper()
	statement := l.blob("application/vnd.in-toto+json", []byte(body))
	statement.Annotations = map[string]string{"in-toto.io/predicate-type": kind}
	desc := l.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: l.json(ocispec.MediaTypeImageConfig, struct{}{}), Layers: []ocispec.Descriptor{statement},
	})
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{
		"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about.Digest.String(),
	}
	return desc
}

// tar writes an archive of one image, an index of manifests.
func (l *layout) tar(name string, manifests ...ocispec.Descriptor) io.Reader {
	l.t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	desc := l.json(ocispec.MediaTypeImageIndex, index)
	desc.Annotations = map[string]string{"io.containerd.image.name": name}
	outer, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": outer}
	for name, b := range l.blobs {
		files[name] = b
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}), second(w.Write(content))); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		l.t.Fatal(err)
	}
	return &b
}

func second(_ int, err error) error { return err }

func (w *world) load(t *testing.T, archive io.Reader, list ...ocispec.Platform) {
	t.Helper()
	if err := w.Load(w.ctx, archive, list, func(jsonstream.Message) {}); err != nil {
		t.Fatal(err)
	}
}

func own() ocispec.Platform     { return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH} }
func foreign() ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: "s390x"} }

const several = "docker.io/library/several:v1"

func (w *world) shows(p ocispec.Platform) bool {
	resp, err := w.Inspect(w.ctx, several, &p)
	return err == nil && resp.Architecture == p.Architecture && resp.Descriptor.Platform != nil
}

func TestPlatformsOfAnImageAreShownSavedLoadedAndRemoved(t *testing.T) {
	w := newWorld(t)
	l := &layout{t: t}
	mine, other := l.manifest(own(), tarOf(t, "mine")), l.manifest(foreign(), tarOf(t, "other"))
	w.load(t, l.tar(several, mine, other))
	if !w.shows(own()) || !w.shows(foreign()) {
		t.Error("a loaded platform is not shown")
	}
	if _, err := w.Inspect(w.ctx, several, &ocispec.Platform{OS: "linux", Architecture: "riscv64"}); !errdefs.IsNotFound(err) {
		t.Errorf("a platform that is not there: %v", err)
	}
	if resp, err := w.Inspect(w.ctx, several, nil); err != nil || resp.Architecture != runtime.GOARCH {
		t.Errorf("without a platform %+v is shown, %v", resp, err)
	}
	var all bytes.Buffer
	w.save(t, &all, "several")

	if _, err := w.RemovePlatforms(w.ctx, several, []ocispec.Platform{own()}, false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a platform is removed without force: %v", err)
	}
	gone, err := w.RemovePlatforms(w.ctx, several, []ocispec.Platform{own()}, true)
	if err != nil || len(gone) != 1 || gone[0].Deleted != mine.Digest.String() {
		t.Errorf("removed %v, %v", gone, err)
	}
	if w.shows(own()) || !w.shows(foreign()) {
		t.Error("the wrong platform was removed")
	}
	// What is left is shown, and saved, without being asked for by name.
	if resp, err := w.Inspect(w.ctx, several, nil); err != nil || resp.Architecture != "s390x" {
		t.Errorf("the rest is shown as %+v, %v", resp, err)
	}
	w.save(t, io.Discard, "several:v1")
	if _, err := w.Remove(w.ctx, several, false); err != nil {
		t.Fatal(err)
	}
	w.load(t, &all, foreign())
	if w.shows(own()) || !w.shows(foreign()) {
		t.Error("not the named platform alone was loaded")
	}
}

func TestAttestationsAreShown(t *testing.T) {
	w := newWorld(t)
	l := &layout{t: t}
	mine := l.manifest(own(), tarOf(t, "mine"))
	w.load(t, l.tar(several, mine, l.attest(mine, "https://slsa.dev/provenance/v0.2", `{"a":1}`)))
	list, err := w.Attestations(w.ctx, several, image.AttestationRequest{Bodies: true})
	if err != nil || len(list) != 1 || list[0].PredicateType != "https://slsa.dev/provenance/v0.2" || string(*list[0].Statement) != `{"a":1}` {
		t.Errorf("statements %+v, %v", list, err)
	}
	list, err = w.Attestations(w.ctx, several, image.AttestationRequest{Types: []string{"https://spdx.dev/Document"}})
	if err != nil || len(list) != 0 {
		t.Errorf("statements of another type %+v, %v", list, err)
	}
	other := foreign()
	if _, err := w.Attestations(w.ctx, several, image.AttestationRequest{Platform: &other}); !errdefs.IsNotFound(err) {
		t.Errorf("of a platform that is not there: %v", err)
	}
}

func TestAnImageThatCannotBeUnpackedTakesNoName(t *testing.T) {
	w := newWorld(t)
	l := &layout{t: t}
	archive := l.tar(several, l.manifest(own(), []byte("this is no layer")))
	bad, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	var shown string
	show := func(m jsonstream.Message) { shown += m.Stream }
	if err := w.Load(w.ctx, bytes.NewReader(bad), nil, show); !errdefs.IsInvalidArgument(err) || !strings.Contains(shown, "Loaded image: several:v1") {
		t.Errorf("the image was kept as %q with the error %v", shown, err)
	}
	if _, err := w.Remove(w.ctx, several, false); err != nil {
		t.Fatal(err)
	}
	good := &layout{t: t}
	w.load(t, good.tar(several, good.manifest(own(), tarOf(t, "file"))))
	before, err := w.Get(w.ctx, several)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Load(w.ctx, bytes.NewReader(bad), nil, show); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a damaged image is loaded: %v", err)
	}
	if after, err := w.Get(w.ctx, several); err != nil || after.ID() != before.ID() {
		t.Errorf("the name moved to %s, %v", after.ID(), err)
	}
}

func TestARepositoryIsSavedWithAllItsTagsAndAnIDWithNone(t *testing.T) {
	w := newWorld(t)
	l := &layout{t: t}
	w.load(t, l.tar(several, l.manifest(own(), tarOf(t, "file"))))
	if err := w.Tag(w.ctx, several, "several", "v2"); err != nil {
		t.Fatal(err)
	}
	img, err := w.Get(w.ctx, several)
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string][]string{
		"several": {"docker.io/library/several:v1", "docker.io/library/several:v2"}, "several:v2": {"docker.io/library/several:v2"},
		img.ID(): {""}, "several@" + img.ID(): {""},
	} {
		var b bytes.Buffer
		w.save(t, &b, ref)
		if got := savedNames(t, &b); !slices.Equal(got, want) {
			t.Errorf("%s is saved as %q, want %q", ref, got, want)
		}
	}
}

func savedNames(t *testing.T, r io.Reader) []string {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "index.json" {
			continue
		}
		var index ocispec.Index
		if err := json.NewDecoder(archive).Decode(&index); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range index.Manifests {
			names = append(names, m.Annotations["io.containerd.image.name"])
		}
		slices.Sort(names)
		return names
	}
}
