// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeImages is one image: its manifest and a layer.
type fakeImages struct {
	name  string
	desc  ocispec.Descriptor
	blobs map[digest.Digest]string
	// open counts blobs that were not closed.
	open int
}

func (f *fakeImages) Resolve(_ context.Context, name string) (ocispec.Descriptor, error) {
	if name != f.name {
		return ocispec.Descriptor{}, errdefs.ErrNotFound
	}
	return f.desc, nil
}

func (f *fakeImages) Blob(_ context.Context, d digest.Digest) (Blob, error) {
	s, ok := f.blobs[d]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	f.open++
	return &fakeBlob{strings.NewReader(s), f}, nil
}

type fakeBlob struct {
	*strings.Reader
	f *fakeImages
}

func (b *fakeBlob) Close() error { b.f.open--; return nil }

const (
	layer    = "0123456789"
	manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}`
)

func newImages() *fakeImages {
	d := digest.FromString(manifest)
	return &fakeImages{
		name: "docker.io/library/one:latest",
		desc: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(manifest)),
			Annotations: map[string]string{"private": "to the store"},
		},
		blobs: map[digest.Digest]string{d: manifest, digest.FromString(layer): layer},
	}
}

func ask(t *testing.T, f *fakeImages, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler(f).ServeHTTP(w, r)
	if f.open != 0 {
		t.Errorf("%s %s: %d blobs left open", method, target, f.open)
	}
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func TestBuildsFindImagesOfTheStoreByName(t *testing.T) {
	f := newImages()
	resp, body := ask(t, f, "GET", "/image?name=docker.io/library/one:latest")
	var got ocispec.Descriptor
	if err := json.Unmarshal([]byte(body), &got); resp.StatusCode != 200 || err != nil {
		t.Fatalf("%s: %s, error %v", resp.Status, body, err)
	}
	if got.Digest != f.desc.Digest || got.Size != f.desc.Size || got.MediaType != f.desc.MediaType || got.Annotations != nil {
		t.Errorf("%+v", got)
	}
	if resp, _ := ask(t, f, "GET", "/image?name=docker.io/library/other:latest"); resp.StatusCode != 404 {
		t.Errorf("a name that is not there: %s", resp.Status)
	}
}

func TestBuildsReadContentByDigest(t *testing.T) {
	f := newImages()
	m, l := digest.FromString(manifest).String(), digest.FromString(layer).String()
	for _, tc := range []struct {
		method, target, bytes string
		code                  int
		body, mediaType       string
	}{
		{"GET", "/v2/library/one/manifests/" + m + "?ns=docker.io", "", 200, manifest, ocispec.MediaTypeImageManifest},
		{"HEAD", "/v2/library/one/manifests/" + m, "", 200, "", ocispec.MediaTypeImageManifest},
		{"GET", "/v2/one/blobs/" + l, "", 200, layer, "application/octet-stream"},
		{"GET", "/v2/a/b/c/blobs/" + l, "bytes=3-5", 206, "345", "application/octet-stream"},
	} {
		var header []string
		if tc.bytes != "" {
			header = []string{"Range", tc.bytes}
		}
		resp, body := ask(t, f, tc.method, tc.target, header...)
		if resp.StatusCode != tc.code || body != tc.body || resp.Header.Get("Content-Type") != tc.mediaType {
			t.Errorf("%s %s: %s, %q, %s", tc.method, tc.target, resp.Status, body, resp.Header.Get("Content-Type"))
		}
	}
}

func TestBuildsGetNothingElseOfTheStore(t *testing.T) {
	f := newImages()
	m, l := digest.FromString(manifest).String(), digest.FromString(layer).String()
	for _, tc := range []struct {
		method, target string
		code           int
	}{
		{"GET", "/v2/one/manifests/latest", 404},
		{"GET", "/v2/one/manifests/" + l, 404},
		{"GET", "/v2/one/blobs/" + digest.FromString("not there").String(), 404},
		{"GET", "/v2/one/blobs/sha256:../../../etc/passwd", 307},
		{"GET", "/v2/blobs/" + l, 404},
		{"GET", "/v2/", 404},
		{"GET", "/image", 400},
		{"GET", "/image?name=" + strings.Repeat("a", maxName+1), 400},
		{"PUT", "/v2/one/manifests/" + m, 405},
		{"DELETE", "/v2/one/manifests/" + m, 405},
		{"POST", "/v2/one/blobs/uploads/", 405},
		{"POST", "/image?name=docker.io/library/one:latest", 405},
	} {
		if resp, body := ask(t, f, tc.method, tc.target); resp.StatusCode != tc.code || strings.Contains(body, layer) {
			t.Errorf("%s %.80s: %s, want %d: %q", tc.method, tc.target, resp.Status, tc.code, body)
		}
	}
}

func TestTypesOfManifestsComeFromTheirContent(t *testing.T) {
	for body, want := range map[string]string{
		`{"mediaType":"x/y"}`: "x/y",
		`{"manifests":[]}`:    ocispec.MediaTypeImageIndex,
		`{"layers":[]}`:       ocispec.MediaTypeImageManifest,
		`{}`:                  "",
		`no JSON`:             "",
		`{"layers":[],"x":"` + strings.Repeat("x", maxManifest) + `"}`: "",
	} {
		if got := manifestType(&fakeBlob{Reader: strings.NewReader(body)}); got != want {
			t.Errorf("%.40s: %q, want %q", body, got, want)
		}
	}
}
