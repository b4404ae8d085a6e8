// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tag gives an image a further name; a name that was another image's moves.
func (s *Store) Tag(ctx context.Context, ref, repo, tag string) error {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	named, err := newName(repo, tag)
	if err != nil {
		return err
	}
	if err := s.name(ctx, named.String(), img.Target); err != nil {
		return err
	}
	s.publish(ctx, events.ActionTag, img.ID(), reference.FamiliarString(named))
	return nil
}

func newName(repo, tag string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(invalidReference(err))
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create a tag with a digest reference")
	}
	if digest.Algorithm(reference.FamiliarName(named)).Available() {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create an ambiguous tag using digest algorithm as name")
	}
	if tag == "" {
		return reference.TagNameOnly(named), nil
	}
	tagged, err := reference.WithTag(reference.TrimNamed(named), tag)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return tagged, nil
}

// name points a name to target. An image that loses its last name stays, as
// one without a name.
func (s *Store) name(ctx context.Context, name string, target ocispec.Descriptor) error {
	// Two that give one name at once, as loads of one image do, follow each other.
	s.naming.Lock()
	defer s.naming.Unlock()
	old, err := s.names().Get(ctx, name)
	switch {
	case err == nil && old.Target.Digest == target.Digest:
		return nil
	case err == nil:
		if err := s.keepDangling(ctx, old); err != nil {
			return err
		}
		_, err = s.names().Update(ctx, images.Image{Name: name, Target: target}, "target")
	case errdefs.IsNotFound(err):
		_, err = s.names().Create(ctx, images.Image{Name: name, Target: target})
	}
	if err != nil {
		return fmt.Errorf("name image %s: %w", name, err)
	}
	return s.dropDangling(ctx, target.Digest)
}

// keepDangling keeps what a record points to when it is the only one.
func (s *Store) keepDangling(ctx context.Context, old images.Image) error {
	all, err := s.names().List(ctx, "target.digest=="+old.Target.Digest.String())
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	if len(all) > 1 {
		return nil
	}
	_, err = s.names().Create(ctx, images.Image{Name: danglingName(old.Target.Digest), Target: old.Target})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep image %s: %w", old.Target.Digest, err)
	}
	return nil
}

func (s *Store) dropDangling(ctx context.Context, d digest.Digest) error {
	err := s.names().Delete(ctx, danglingName(d))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("drop name of image %s: %w", d, err)
	}
	return nil
}
