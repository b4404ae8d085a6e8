// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob is content of the image store, read at any place; it is closed after
// use.
type Blob interface {
	io.ReaderAt
	io.Closer
	// Size is in bytes.
	Size() int64
}

// Images is what builds see of the daemon's image store. What is not there is
// errdefs' ErrNotFound.
type Images interface {
	// Resolve finds what a name stands for.
	Resolve(ctx context.Context, name string) (ocispec.Descriptor, error)
	// Blob opens content by its digest.
	Blob(ctx context.Context, d digest.Digest) (Blob, error)
}

const (
	// maxName bounds the names that a guest asks for.
	maxName = 4 << 10
	// maxManifest bounds the blobs that are looked into for their type.
	maxManifest = 4 << 20
)

// handler serves the image store to the builder, whose builds may be hostile:
// names and content, read-only. Whatever a build could name in a FROM it may
// read.
//
//	GET /image?name=NAME                   the descriptor of a name
//	GET /v2/REPOSITORY/manifests/DIGEST    content, as registries serve it
//	GET /v2/REPOSITORY/blobs/DIGEST        the same
func handler(images Images) http.Handler {
	s := &imageServer{images: images}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /image", s.name)
	mux.HandleFunc("GET /v2/{path...}", s.content)
	return mux
}

type imageServer struct{ images Images }

func (s *imageServer) name(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" || len(name) > maxName {
		http.Error(w, "invalid name", http.StatusBadRequest)
		return
	}
	desc, err := s.images.Resolve(r.Context(), name)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The builder has gone if this fails.
	_ = json.NewEncoder(w).Encode(ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
}

func (s *imageServer) content(w http.ResponseWriter, r *http.Request) {
	kind, d, ok := contentOf(r.PathValue("path"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	blob, err := s.images.Blob(r.Context(), d)
	if err != nil {
		refuse(w, err)
		return
	}
	defer blob.Close()
	mediaType := "application/octet-stream"
	if kind == "manifests" {
		if mediaType = manifestType(blob); mediaType == "" {
			http.NotFound(w, r)
			return
		}
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(blob, 0, blob.Size()))
}

// contentOf takes REPOSITORY/manifests/DIGEST apart. The repository does not
// matter: content is the same under each name.
func contentOf(path string) (kind string, d digest.Digest, ok bool) {
	rest, last, ok := cutLast(path)
	if !ok {
		return "", "", false
	}
	_, kind, ok = cutLast(rest)
	if !ok || kind != "manifests" && kind != "blobs" {
		return "", "", false
	}
	d, err := digest.Parse(last)
	return kind, d, err == nil
}

func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

// manifestType returns the media type that a manifest or an index has in it, or
// must have by what is in it; "" for other content.
func manifestType(blob Blob) string {
	if blob.Size() > maxManifest {
		return ""
	}
	var m struct {
		MediaType string
		Manifests []json.RawMessage
		Layers    []json.RawMessage
	}
	if err := json.NewDecoder(io.NewSectionReader(blob, 0, blob.Size())).Decode(&m); err != nil {
		return ""
	}
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Layers != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}

func refuse(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errdefs.IsNotFound(err):
		code = http.StatusNotFound
	case errdefs.IsInvalidArgument(err):
		code = http.StatusBadRequest
	}
	http.Error(w, err.Error(), code)
}
