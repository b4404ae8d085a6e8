// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// NewImage describes an image that is made here, of a layer on top of another
// image or of nothing.
type NewImage struct {
	// Base is what lies below; nil for nothing.
	Base *Detail
	// Layer writes a tar of the new layer. One without entries adds none.
	Layer func(io.Writer) error
	// Config is the image's configuration.
	Config dockerspec.DockerOCIImageConfig
	// Platform is what the image is for.
	Platform ocispec.Platform
	// Author, Comment and CreatedBy go into the history.
	Author, Comment, CreatedBy string
	// Name is the image's, nil for none.
	Name reference.Named
}

// Name reads the name that a new image is to have; nil for an empty one.
func Name(repo, tag string) (reference.Named, error) {
	if repo == "" {
		return nil, nil
	}
	return newName(repo, tag)
}

// maxLayer bounds the tar of a layer that a machine sends.
const maxLayer = 256 << 30

// Make makes an image and returns its ID. It is unpacked when it gets its name;
// when Make fails nothing of it stays.
func (s *Store) Make(ctx context.Context, n NewImage) (digest.Digest, error) {
	ctx, release, err := s.cfg.Client.WithLease(ctx)
	if err != nil {
		return "", fmt.Errorf("make image: %w", err)
	}
	defer func() {
		if err := release(context.WithoutCancel(ctx)); err != nil {
			s.log.Warn("lease not released", "err", err)
		}
	}()
	target, err := s.makeImage(ctx, n)
	if err != nil {
		return "", fmt.Errorf("make image: %w", err)
	}
	if n.Name == nil {
		_, err = s.names().Create(ctx, images.Image{Name: danglingName(target.Digest), Target: target})
		if errdefs.IsAlreadyExists(err) {
			err = nil
		}
	} else if err = s.name(ctx, n.Name.String(), target); err == nil {
		s.publish(ctx, events.ActionTag, target.Digest.String(), reference.FamiliarString(n.Name))
	}
	return target.Digest, err
}

func (s *Store) makeImage(ctx context.Context, n NewImage) (ocispec.Descriptor, error) {
	layer, diffID, err := s.addLayer(ctx, n.Layer)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	cfg, layers := n.compose(layer, diffID, time.Now().UTC())
	config, err := s.addJSON(ctx, ocispec.MediaTypeImageConfig, cfg, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	}
	labels := map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}
	for i, l := range layers {
		labels[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
	}
	target, err := s.addJSON(ctx, manifest.MediaType, manifest, labels)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(layers) == 0 {
		return target, nil
	}
	return target, s.unpack(ctx, target)
}

// compose puts the configuration of the new image on top of its base's.
func (n NewImage) compose(layer ocispec.Descriptor, diffID digest.Digest, now time.Time) (dockerspec.DockerOCIImage, []ocispec.Descriptor) {
	cfg := dockerspec.DockerOCIImage{
		Image: ocispec.Image{
			Created: &now, Author: n.Author, Platform: n.Platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
		},
		Config: n.Config,
	}
	layers := []ocispec.Descriptor{}
	if b := n.Base; b != nil {
		cfg.Platform = b.Config.Platform
		cfg.History = append(cfg.History, b.Config.History...)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, b.Config.RootFS.DiffIDs...)
		layers = append(layers, b.Layers...)
	}
	step := ocispec.History{
		Created: &now, CreatedBy: n.CreatedBy, Author: n.Author, Comment: n.Comment, EmptyLayer: diffID == "",
	}
	if diffID != "" {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, diffID)
		layers = append(layers, layer)
	}
	cfg.History = append(cfg.History, step)
	return cfg, layers
}

// addJSON puts a document in the content store, held by the lease in ctx.
func (s *Store) addJSON(ctx context.Context, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	err = content.WriteBlob(ctx, s.content(), "make-"+desc.Digest.Encoded(), bytes.NewReader(b), desc, content.WithLabels(labels))
	if err != nil {
		return desc, fmt.Errorf("store %s: %w", mediaType, err)
	}
	return desc, nil
}

// emptyTar is how long a tar without entries is: the two blocks of its end.
const emptyTar = 1024

// addLayer puts a layer in the content store, compressed. The diffID is empty
// for a layer without entries, of which nothing is kept.
func (s *Store) addLayer(ctx context.Context, write func(io.Writer) error) (desc ocispec.Descriptor, diffID digest.Digest, err error) {
	w, err := content.OpenWriter(ctx, s.content(), content.WithRef("make-"+rand.Text()))
	if err != nil {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return desc, "", err
	}
	plain := &plainLayer{digester: digest.Canonical.Digester()}
	if err := write(io.MultiWriter(plain, packed)); err != nil {
		return desc, "", fmt.Errorf("read layer: %w", err)
	}
	if err := packed.Close(); err != nil {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	if plain.size <= emptyTar {
		return desc, "", nil
	}
	diffID = plain.digester.Digest()
	err = w.Commit(ctx, 0, "", content.WithLabels(map[string]string{"containerd.io/uncompressed": diffID.String()}))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	st, err := s.content().Info(ctx, w.Digest())
	if err != nil {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: st.Digest, Size: st.Size}, diffID, nil
}

// plainLayer takes the digest of a layer and bounds it.
type plainLayer struct {
	digester digest.Digester
	size     int64
}

func (p *plainLayer) Write(b []byte) (int, error) {
	if p.size += int64(len(b)); p.size > maxLayer {
		return 0, fmt.Errorf("layer of more than %d bytes", int64(maxLayer))
	}
	return p.digester.Hash().Write(b)
}

// Import makes an image of one layer of a tar, plain or compressed by gzip, zstd or
// bzip2.
func (s *Store) Import(ctx context.Context, r io.Reader, n NewImage) (digest.Digest, error) {
	n.Layer = func(w io.Writer) error {
		plain, err := Decompress(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, plain)
		return errors.Join(err, plain.Close())
	}
	id, err := s.Make(ctx, n)
	if err != nil {
		return "", err
	}
	name := ""
	if n.Name != nil {
		name = reference.FamiliarString(n.Name)
	}
	s.publish(ctx, events.ActionImport, id.String(), name)
	return id, nil
}

// Decompress reads what a client sends as an archive: a tar as it is, or one
// compressed by gzip, bzip2 or zstd.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if errors.Is(err, io.EOF) {
		return io.NopCloser(r), nil // nothing makes an image with no files
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	switch {
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(r)), nil
	case string(head) == "\xfd7zXZ\x00":
		return nil, errdefs.ErrInvalidArgument.WithMessage("byre does not read archives compressed by xz: give it through \"xz -dc\"")
	}
	return compression.DecompressStream(r)
}
