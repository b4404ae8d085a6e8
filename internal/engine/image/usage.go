// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Usage is what images take on disk.
type Usage struct {
	// Total is what all of them take, with what they share counted once.
	Total int64
	// Reclaimable is what goes when those that are not in use go: what one in
	// use shares with them stays.
	Reclaimable int64
	// Shared is, for each image by its ID, how much of it others hold as well.
	Shared map[string]int64
}

// Usage measures all images. InUse says of an image by its ID whether it is in
// use; nil means that none is.
func (s *Store) Usage(ctx context.Context, inUse func(id string) bool) (Usage, error) {
	u := Usage{Shared: map[string]int64{}}
	all, err := s.All(ctx)
	if err != nil {
		return u, err
	}
	t := tally{store: s, sizes: map[part]int64{}}
	holders, kept := map[part]int{}, map[part]bool{}
	parts := make([]map[part]bool, len(all))
	for i, img := range all {
		t.parts = map[part]bool{}
		if err := images.Walk(ctx, images.HandlerFunc(t.count), img.Target); err != nil {
			s.log.Warn("size of image not known", "image", img.ID(), "err", err)
		}
		parts[i] = t.parts
		for p := range t.parts {
			holders[p]++
			kept[p] = kept[p] || inUse != nil && inUse(img.ID())
		}
	}
	for i, img := range all {
		for p := range parts[i] {
			if holders[p] > 1 {
				u.Shared[img.ID()] += t.sizes[p]
			}
		}
	}
	for p := range holders {
		u.Total += t.sizes[p]
		if !kept[p] {
			u.Reclaimable += t.sizes[p]
		}
	}
	return u, nil
}

// part is something on disk that images hold: a blob by its digest, or an
// unpacked layer by the chain of layers that it ends.
type part struct {
	unpacked bool
	digest   digest.Digest
}

// tally finds the parts of images.
type tally struct {
	store *Store
	// sizes has the size of every part that was found so far.
	sizes map[part]int64
	// parts are those of the image that is being walked.
	parts map[part]bool
}

// count adds a blob and, for a manifest, its unpacked layers; it returns the
// blob's children.
func (t *tally) count(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	blob := part{digest: desc.Digest}
	if t.parts[blob] {
		return nil, images.ErrSkipDesc
	}
	if _, known := t.sizes[blob]; !known {
		info, err := t.store.content().Info(ctx, desc.Digest)
		if errdefs.IsNotFound(err) {
			return nil, images.ErrSkipDesc
		} else if err != nil {
			return nil, err
		}
		t.sizes[blob] = info.Size
	}
	t.parts[blob] = true
	if images.IsManifestType(desc.MediaType) && !isAttestation(desc) {
		// A manifest without its configuration has no layers either.
		if d, err := t.store.detailOf(ctx, desc); err == nil {
			t.unpacked(ctx, d.Config.RootFS.DiffIDs)
		}
	}
	return images.Children(ctx, t.store.content(), desc)
}

func (t *tally) unpacked(ctx context.Context, diffIDs []digest.Digest) {
	for i := range diffIDs {
		layer := part{unpacked: true, digest: identity.ChainID(diffIDs[:i+1])}
		if _, known := t.sizes[layer]; !known {
			t.sizes[layer] = t.store.layerSize(ctx, diffIDs[:i+1])
		}
		t.parts[layer] = true
	}
}
