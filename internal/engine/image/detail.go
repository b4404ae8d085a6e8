// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Detail is the part of an image that one platform uses.
type Detail struct {
	// Manifest describes the platform's manifest.
	Manifest ocispec.Descriptor
	// Layers describe the layers, lowest first.
	Layers []ocispec.Descriptor
	// ConfigSize is the size of the configuration in bytes.
	ConfigSize int64
	// Config is the image's configuration.
	Config dockerspec.DockerOCIImage
}

// ChainID names the snapshot of the image's layers.
func (d *Detail) ChainID() string { return identity.ChainID(d.Config.RootFS.DiffIDs).String() }

// maxDetails bounds what is remembered.
const maxDetails = 512

// Detail reads what platform uses of an image; nil means the engine's own. An
// image that is one manifest is returned whatever it is for.
func (s *Store) Detail(ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform) (*Detail, error) {
	matcher := s.matcher
	if platform != nil {
		matcher = platforms.Only(*platform)
	}
	desc, err := s.manifestFor(ctx, target, matcher)
	if err != nil {
		return nil, err
	}
	return s.detailOf(ctx, desc)
}

// detailOf reads a manifest and its configuration, or remembers them: content
// never changes under its digest.
func (s *Store) detailOf(ctx context.Context, manifest ocispec.Descriptor) (*Detail, error) {
	s.mu.Lock()
	known := s.details[manifest.Digest]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	d := &Detail{Manifest: manifest}
	var m ocispec.Manifest
	if err := s.readJSON(ctx, manifest, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	d.Layers, d.ConfigSize = m.Layers, m.Config.Size
	if err := s.readJSON(ctx, m.Config, &d.Config); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.details) >= maxDetails {
		clear(s.details)
	}
	s.details[manifest.Digest] = d
	return d, nil
}

// manifestFor picks the manifest of a platform out of an index.
func (s *Store) manifestFor(ctx context.Context, target ocispec.Descriptor, matcher platforms.MatchComparer) (ocispec.Descriptor, error) {
	if images.IsManifestType(target.MediaType) {
		return target, nil
	}
	index, err := s.readIndex(ctx, target)
	if err != nil {
		return target, err
	}
	var best *ocispec.Descriptor
	for _, m := range index.Manifests {
		if m.Platform != nil && !matcher.Match(*m.Platform) || isAttestation(m) {
			continue
		}
		if _, err := s.content().Info(ctx, m.Digest); err != nil {
			continue
		}
		if best == nil || m.Platform != nil && best.Platform != nil && matcher.Less(*m.Platform, *best.Platform) {
			best = &m
		}
	}
	if best == nil {
		return target, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not provide the specified platform", target.Digest))
	}
	return *best, nil
}

func (s *Store) readIndex(ctx context.Context, target ocispec.Descriptor) (ocispec.Index, error) {
	var index ocispec.Index
	if err := s.readJSON(ctx, target, &index); err != nil {
		return index, fmt.Errorf("read index: %w", err)
	}
	return index, nil
}

func isAttestation(m ocispec.Descriptor) bool {
	return m.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

// maxBlob bounds the JSON documents of images.
const maxBlob = 16 << 20

func (s *Store) readJSON(ctx context.Context, desc ocispec.Descriptor, v any) error {
	if desc.Size > maxBlob {
		return fmt.Errorf("%s of %d bytes is over %d", desc.Digest, desc.Size, maxBlob)
	}
	b, err := content.ReadBlob(ctx, s.content(), desc)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// Unpacked makes sure that the layers of an image are there as snapshots.
func (s *Store) Unpacked(ctx context.Context, img Image, d *Detail) error {
	if len(d.Config.RootFS.DiffIDs) == 0 {
		return nil
	}
	if _, err := s.snapshots().Stat(ctx, d.ChainID()); err == nil {
		return nil
	} else if !errdefs.IsNotFound(err) {
		return fmt.Errorf("find layers of %s: %w", img.ID(), err)
	}
	return s.unpack(ctx, img.Target)
}

func (s *Store) unpack(ctx context.Context, target ocispec.Descriptor) error {
	i := containerd.NewImageWithPlatform(s.cfg.Client, images.Image{Name: danglingName(target.Digest), Target: target}, s.matcher)
	if err := i.Unpack(ctx, s.cfg.Snapshotter); err != nil {
		return fmt.Errorf("unpack %s: %w", target.Digest, err)
	}
	return nil
}

// size returns what an image takes: its content and its unpacked layers.
func (s *Store) size(ctx context.Context, d *Detail) int64 {
	total := d.Manifest.Size + d.ConfigSize
	for _, l := range d.Layers {
		total += l.Size
	}
	for i := range d.Config.RootFS.DiffIDs {
		total += s.layerSize(ctx, d.Config.RootFS.DiffIDs[:i+1])
	}
	return total
}

// layerSize returns the disk space of the topmost layer of a chain; 0 when it
// is not unpacked.
func (s *Store) layerSize(ctx context.Context, diffIDs []digest.Digest) int64 {
	usage, err := s.snapshots().Usage(ctx, identity.ChainID(diffIDs).String())
	if err != nil {
		if !errdefs.IsNotFound(err) && !errors.Is(err, context.Canceled) {
			s.log.Warn("size of layer not known", "err", err)
		}
		return 0
	}
	return usage.Size
}

// Size returns what an image takes on disk for the engine's own platform.
func (s *Store) Size(ctx context.Context, id string) (int64, error) {
	img, err := s.Get(ctx, id)
	if err != nil {
		return 0, err
	}
	d, err := s.Detail(ctx, img.Target, nil)
	if err != nil {
		return 0, err
	}
	return s.size(ctx, d), nil
}

// wholeSize returns what an image takes with all its platforms.
func (s *Store) wholeSize(ctx context.Context, img Image) (int64, error) {
	all, err := s.Manifests(ctx, img)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, m := range all {
		total += m.Size.Total
	}
	return total, nil
}
