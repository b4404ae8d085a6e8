// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxRemote bounds the documents that a registry is asked for.
const maxRemote = 8 << 20

// Remote describes an image as its registry has it; nothing of it is kept.
func (s *Store) Remote(ctx context.Context, name string, auth *registry.AuthConfig) (registry.DistributionInspect, error) {
	var resp registry.DistributionInspect
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return resp, errdefs.ErrInvalidArgument.WithMessage(invalidReference(err))
	}
	named = reference.TagNameOnly(named)
	resolver := newResolver(auth, named)
	_, desc, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return resp, remoteError("inspect", named, err)
	}
	resp.Descriptor = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	read := func(desc ocispec.Descriptor, v any) error {
		fetcher, err := resolver.Fetcher(ctx, named.String())
		if err != nil {
			return err
		}
		r, err := fetcher.Fetch(ctx, desc)
		if err != nil {
			return err
		}
		defer r.Close()
		return decodeVerified(r, desc, v)
	}
	if resp.Platforms, err = remotePlatforms(desc, read); err != nil {
		return resp, remoteError("inspect", named, err)
	}
	return resp, nil
}

// remotePlatforms reads which platforms an image is for.
func remotePlatforms(desc ocispec.Descriptor, read func(ocispec.Descriptor, any) error) ([]ocispec.Platform, error) {
	list := []ocispec.Platform{}
	if images.IsIndexType(desc.MediaType) {
		var index ocispec.Index
		if err := read(desc, &index); err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			if m.Platform != nil && !isAttestation(m) {
				list = append(list, *m.Platform)
			}
		}
		return list, nil
	}
	var manifest ocispec.Manifest
	if err := read(desc, &manifest); err != nil {
		return nil, err
	}
	var config ocispec.Image
	if err := read(manifest.Config, &config); err != nil {
		return nil, err
	}
	return append(list, config.Platform), nil
}

// decodeVerified reads a JSON document that a descriptor names, and nothing
// else in its place.
func decodeVerified(r io.Reader, desc ocispec.Descriptor, v any) error {
	if err := desc.Digest.Validate(); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxRemote+1))
	if err != nil {
		return err
	}
	if len(b) > maxRemote {
		return fmt.Errorf("%s is larger than %d bytes: %w", desc.Digest, maxRemote, errdefs.ErrOutOfRange)
	}
	if got := desc.Digest.Algorithm().FromBytes(b); got != desc.Digest {
		return fmt.Errorf("%s was asked for and %s came: %w", desc.Digest, got, errdefs.ErrDataLoss)
	}
	return json.Unmarshal(b, v)
}
