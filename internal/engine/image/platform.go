// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// preferring takes every platform, and the given one before others.
type preferring struct{ platforms.MatchComparer }

func (preferring) Match(ocispec.Platform) bool { return true }

// wanted matches the platforms that a request names, without any all, and
// prefers the engine's own.
func (s *Store) wanted(list []ocispec.Platform) platforms.MatchComparer {
	if len(list) == 0 {
		return preferring{s.matcher}
	}
	return ordered{prefer: s.matcher, any: platforms.Any(list...)}
}

// ordered matches what any does and puts what prefer does first.
type ordered struct{ prefer, any platforms.MatchComparer }

func (o ordered) Match(p ocispec.Platform) bool { return o.any.Match(p) }
func (o ordered) Less(a, b ocispec.Platform) bool {
	if own := o.prefer.Match(a); own != o.prefer.Match(b) {
		return own
	}
	return o.any.Less(a, b)
}

// Shown reads what is shown of an image: what the engine's own platform has of
// it, else what another has that is here; nothing where none is. A platform that is
// named is the one that is read, or errdefs' ErrNotFound.
func (s *Store) Shown(ctx context.Context, img Image, platform *ocispec.Platform) (*Detail, error) {
	if platform != nil {
		return s.strict(ctx, img, *platform)
	}
	desc, err := s.manifestFor(ctx, img.Target, s.wanted(nil))
	if errdefs.IsNotFound(err) && images.IsIndexType(img.Target.MediaType) {
		return &Detail{}, nil
	} else if err != nil {
		return nil, err
	}
	return s.detailOf(ctx, desc)
}

// strict reads what a platform, and no other that it could run, has of an image.
func (s *Store) strict(ctx context.Context, img Image, platform ocispec.Platform) (*Detail, error) {
	matcher := platforms.OnlyStrict(platform)
	var d *Detail
	desc, err := s.manifestFor(ctx, img.Target, matcher)
	if err == nil {
		d, err = s.detailOf(ctx, desc)
	}
	if errdefs.IsNotFound(err) || err == nil && !matcher.Match(d.platform()) {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"image with reference %s was found but does not provide the specified platform (%s)", img.name(), platforms.FormatAll(platform)))
	} else if err != nil {
		return nil, err
	}
	if d.Manifest.Platform != nil {
		return d, nil
	}
	with, own := *d, d.platform()
	with.Manifest.Platform = &own
	return &with, nil
}

// platform is what an image is for, as its configuration says.
func (d *Detail) platform() ocispec.Platform {
	c := d.Config
	return ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures}
}

// name is what messages call an image.
func (i Image) name() string {
	if named := parseName(i.Ref); i.Ref != "" && named != nil {
		return reference.FamiliarString(named)
	}
	return i.ID()
}

// runnable says whether an image has what containers run on.
func (s *Store) runnable(ctx context.Context, target ocispec.Descriptor) (bool, error) {
	desc, err := s.manifestFor(ctx, target, s.matcher)
	if errdefs.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	d, err := s.detailOf(ctx, desc)
	if err != nil {
		return false, err
	}
	return s.matcher.Match(d.platform()), nil
}

// RemovePlatforms removes what platforms have of an image and leaves it its
// names. It has to be forced, as in dockerd, since every image of which the
// same is part loses it; running containers cannot lose theirs.
func (s *Store) RemovePlatforms(ctx context.Context, ref string, list []ocispec.Platform, force bool) ([]image.DeleteResponse, error) {
	if !force {
		return nil, errdefs.ErrInvalidArgument.WithMessage("the content is removed from all images that refer to this variant: it has to be forced")
	}
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	var resp []image.DeleteResponse
	for _, p := range list {
		d, err := s.strict(ctx, img, p)
		if err != nil {
			return resp, err
		}
		if u := s.use(img, true); u != nil && s.matcher.Match(d.platform()) {
			return resp, conflict("unable to delete %s of %s (cannot be forced) - it is being used by running container %s",
				platforms.Format(p), shortID(img), short(u.Container))
		}
		if err := s.removeManifest(ctx, d.Manifest); err != nil {
			return resp, err
		}
		resp = append(resp, image.DeleteResponse{Deleted: d.Manifest.Digest.String()})
	}
	return resp, nil
}

// removeManifest removes a manifest and those of its parts that no other has.
func (s *Store) removeManifest(ctx context.Context, manifest ocispec.Descriptor) error {
	own, err := images.Children(ctx, s.content(), manifest)
	if err != nil {
		return fmt.Errorf("remove manifest %s: %w", manifest.Digest, err)
	}
	kept, err := s.held(ctx, manifest.Digest)
	if err != nil {
		return fmt.Errorf("remove manifest %s: %w", manifest.Digest, err)
	}
	own = slices.DeleteFunc(own, func(d ocispec.Descriptor) bool { return kept[d.Digest] })
	for _, d := range append([]ocispec.Descriptor{manifest}, own...) {
		if err := s.content().Delete(ctx, d.Digest); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove %s: %w", d.Digest, err)
		}
	}
	return nil
}

// held returns all that images are made of, but for what one manifest alone is.
func (s *Store) held(ctx context.Context, without digest.Digest) (map[digest.Digest]bool, error) {
	records, err := s.names().List(ctx)
	if err != nil {
		return nil, err
	}
	all := map[digest.Digest]bool{}
	walk := func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if all[desc.Digest] || desc.Digest == without {
			return nil, images.ErrSkipDesc
		}
		all[desc.Digest] = true
		children, err := images.Children(ctx, s.content(), desc)
		if errdefs.IsNotFound(err) {
			return nil, images.ErrSkipDesc
		}
		return children, err
	}
	for _, r := range records {
		if err := images.Walk(ctx, images.HandlerFunc(walk), r.Target); err != nil {
			return nil, err
		}
	}
	return all, nil
}
