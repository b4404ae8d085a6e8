// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxManifests bounds how many manifests of an index are shown.
const maxManifests = 1000

// Manifests lists the manifests of an image, with those of other platforms and
// those that are not here.
func (s *Store) Manifests(ctx context.Context, img Image) ([]image.ManifestSummary, error) {
	descs := []ocispec.Descriptor{img.Target}
	if images.IsIndexType(img.Target.MediaType) {
		index, err := s.readIndex(ctx, img.Target)
		if err != nil {
			return nil, err
		}
		descs = index.Manifests[:min(len(index.Manifests), maxManifests)]
	}
	all := make([]image.ManifestSummary, 0, len(descs))
	for _, d := range descs {
		all = append(all, s.manifestSummary(ctx, img, d))
	}
	return all, nil
}

func (s *Store) manifestSummary(ctx context.Context, img Image, desc ocispec.Descriptor) image.ManifestSummary {
	sum := image.ManifestSummary{ID: desc.Digest.String(), Descriptor: desc, Kind: image.ManifestKindUnknown}
	if isAttestation(desc) {
		sum.Kind = image.ManifestKindAttestation
		sum.AttestationData = &image.AttestationProperties{For: digest.Digest(desc.Annotations[attestedDigest])}
	}
	var m ocispec.Manifest
	if !images.IsManifestType(desc.MediaType) || s.readJSON(ctx, desc, &m) != nil {
		addPlatform(&sum, desc.Platform)
		return sum
	}
	sum.Available = true
	for _, part := range append([]ocispec.Descriptor{desc, m.Config}, m.Layers...) {
		if info, err := s.content().Info(ctx, part.Digest); err == nil {
			sum.Size.Content += info.Size
		} else {
			sum.Available = false
		}
	}
	sum.Size.Total = sum.Size.Content
	if sum.Kind == image.ManifestKindAttestation {
		return sum
	}
	addPlatform(&sum, desc.Platform)
	if d, err := s.detailOf(ctx, desc); err == nil && sum.Available {
		s.addUse(ctx, &sum, img, d)
	}
	return sum
}

// addPlatform says that a manifest is an image for a platform.
func addPlatform(sum *image.ManifestSummary, p *ocispec.Platform) {
	if sum.Kind == image.ManifestKindAttestation {
		return
	}
	sum.Kind = image.ManifestKindImage
	sum.ImageData = &image.ImageProperties{Containers: []string{}}
	if p != nil {
		sum.ImageData.Platform = *p
	}
}

// addUse adds what is known of a manifest that is here.
func (s *Store) addUse(ctx context.Context, sum *image.ManifestSummary, img Image, d *Detail) {
	sum.ImageData.Platform = ocispec.Platform{
		Architecture: d.Config.Architecture, OS: d.Config.OS, OSVersion: d.Config.OSVersion, Variant: d.Config.Variant,
	}
	for i := range d.Config.RootFS.DiffIDs {
		sum.ImageData.Size.Unpacked += s.layerSize(ctx, d.Config.RootFS.DiffIDs[:i+1])
	}
	sum.Size.Total += sum.ImageData.Size.Unpacked
	if !s.matcher.Match(sum.ImageData.Platform) || s.cfg.Uses == nil {
		return
	}
	for _, u := range s.cfg.Uses() {
		if u.Image == img.ID() {
			sum.ImageData.Containers = append(sum.ImageData.Containers, u.Container)
		}
	}
}

// Blob opens content by its digest; the caller closes it. What is not there is
// errdefs' ErrNotFound.
func (s *Store) Blob(ctx context.Context, d digest.Digest) (content.ReaderAt, error) {
	info, err := s.content().Info(ctx, d)
	if err != nil {
		return nil, err
	}
	return s.content().ReaderAt(ctx, ocispec.Descriptor{Digest: d, Size: info.Size})
}
