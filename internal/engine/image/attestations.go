// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AttestationRequest says which statements to show.
type AttestationRequest struct {
	// Platform whose image they are about; nil means the engine's own.
	Platform *ocispec.Platform
	// Types of predicates; none means all.
	Types []string
	// Bodies asks for the statements themselves.
	Bodies bool
}

const (
	attestedDigest = "vnd.docker.reference.digest"
	predicateType  = "in-toto.io/predicate-type"
)

// Attestations returns the statements that came with an image, as BuildKit
// keeps them: layers of a manifest beside the image's. An image without any
// has none; a platform that it lacks is errdefs' ErrNotFound.
func (s *Store) Attestations(ctx context.Context, ref string, req AttestationRequest) ([]image.AttestationStatement, error) {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	list := []image.AttestationStatement{}
	if !images.IsIndexType(img.Target.MediaType) {
		return list, nil
	}
	platform := s.cfg.Platform
	if req.Platform != nil {
		platform = *req.Platform
	}
	d, err := s.strict(ctx, img, platform)
	if err != nil {
		return nil, err
	}
	index, err := s.readIndex(ctx, img.Target)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(index.Manifests, func(m ocispec.Descriptor) bool {
		return isAttestation(m) && m.Annotations[attestedDigest] == d.Manifest.Digest.String()
	})
	if at < 0 {
		return list, nil
	}
	var manifest ocispec.Manifest
	if err := s.readJSON(ctx, index.Manifests[at], &manifest); err != nil {
		return nil, fmt.Errorf("read attestations of %s: %w", img.name(), err)
	}
	for _, layer := range manifest.Layers {
		kind := layer.Annotations[predicateType]
		if kind == "" || len(req.Types) > 0 && !slices.Contains(req.Types, kind) {
			continue
		}
		statement := image.AttestationStatement{Descriptor: layer, PredicateType: kind}
		if req.Bodies {
			if statement.Statement, err = s.readStatement(ctx, layer); err != nil {
				return nil, fmt.Errorf("read attestation %s of %s: %w", layer.Digest, img.name(), err)
			}
		}
		list = append(list, statement)
	}
	return list, nil
}

func (s *Store) readStatement(ctx context.Context, desc ocispec.Descriptor) (*json.RawMessage, error) {
	if desc.Size > maxBlob {
		return nil, fmt.Errorf("%d bytes are over %d", desc.Size, maxBlob)
	}
	b, err := content.ReadBlob(ctx, s.content(), desc)
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("it is no JSON")
	}
	return (*json.RawMessage)(&b), nil
}
