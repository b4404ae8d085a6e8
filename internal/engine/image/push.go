// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pushed is what a push ends with, for programs.
type Pushed struct {
	// Tag, Digest and Size are those of the manifest or index.
	Tag    string
	Digest string
	Size   int64
}

// PushRequest says what to push.
type PushRequest struct {
	// Name and Tag of the image; an empty tag means latest.
	Name, Tag string
	// Platform of which alone the manifest is pushed; nil for the image.
	Platform *ocispec.Platform
	// Auth are the user's credentials; nil means none.
	Auth *registry.AuthConfig
}

// Push uploads an image to the registry that its name says. Of an image of
// several platforms the manifest of this engine's is pushed, unless all are
// here; with a platform named, the manifest of that one. pushed is called once
// the registry has it.
func (s *Store) Push(ctx context.Context, req PushRequest, progress Progress, pushed func(Pushed)) error {
	named, err := pullName(req.Name, req.Tag)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return errdefs.ErrInvalidArgument.WithMessage("cannot push a digest reference")
	}
	img, err := s.Get(ctx, named.String())
	if err != nil || img.Ref == "" {
		return errdefs.ErrNotFound.WithMessage("tag does not exist: " + reference.FamiliarString(named))
	}
	target, err := s.pushTarget(ctx, img, req.Platform)
	if err != nil {
		return err
	}
	progress(jsonstream.Message{Status: "The push refers to repository [" + named.Name() + "]"})
	layers := newUploads(ctx, progress)
	err = s.cfg.Client.Push(ctx, named.String(), target,
		containerd.WithResolver(newTrackedResolver(req.Auth, named, layers.tracker)),
		containerd.WithPlatformMatcher(platforms.All),
		containerd.WithImageHandler(images.HandlerFunc(layers.add)),
	)
	layers.stop()
	if err != nil {
		return remoteError("push", named, err)
	}
	s.publish(ctx, events.ActionPush, reference.FamiliarString(named), reference.FamiliarName(named))
	result := Pushed{Tag: pullID(named), Digest: target.Digest.String(), Size: target.Size}
	progress(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", result.Tag, result.Digest, result.Size)})
	pushed(result)
	return nil
}

// pushTarget is what of an image can be pushed whole.
func (s *Store) pushTarget(ctx context.Context, img Image, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	if platform != nil {
		d, err := s.strict(ctx, img, *platform)
		if err != nil {
			return img.Target, err
		}
		return d.Manifest, nil
	}
	whole := true
	walk := func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, err := s.content().Info(ctx, desc.Digest); errdefs.IsNotFound(err) {
			whole = false
			return nil, images.ErrSkipDesc
		} else if err != nil {
			return nil, err
		}
		return images.Children(ctx, s.content(), desc)
	}
	if err := images.Walk(ctx, images.HandlerFunc(walk), img.Target); err != nil {
		return img.Target, fmt.Errorf("push image %s: %w", img.ID(), err)
	}
	if whole {
		return img.Target, nil
	}
	detail, err := s.Detail(ctx, img.Target, nil)
	if err != nil {
		return img.Target, err
	}
	return detail.Manifest, nil
}
