// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load takes images from a tar of "docker save" or an OCI layout, compressed
// or not, and unpacks them. No name changes before its image is whole.
func (s *Store) Load(ctx context.Context, r io.Reader, progress Progress) error {
	ctx, release, err := s.cfg.Client.WithLease(ctx)
	if err != nil {
		return fmt.Errorf("load images: %w", err)
	}
	defer func() {
		if err := release(context.WithoutCancel(ctx)); err != nil {
			s.log.Warn("lease not released", "err", err)
		}
	}()
	index, err := s.importIndex(ctx, r)
	if err != nil {
		return err
	}
	loaded := 0
	for _, m := range index.Manifests {
		if isAttestation(m) || s.foreign(m) && slices.ContainsFunc(index.Manifests, func(o ocispec.Descriptor) bool {
			return !s.foreign(o) && !isAttestation(o) && archiveName(o) == archiveName(m)
		}) {
			continue
		}
		if err := s.loadOne(ctx, m, progress); err != nil {
			return err
		}
		loaded++
	}
	if loaded == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("the archive holds no image")
	}
	return nil
}

// importIndex puts the blobs of the archive in the content store, held by the
// lease in ctx.
func (s *Store) importIndex(ctx context.Context, r io.Reader) (ocispec.Index, error) {
	var index ocispec.Index
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return index, invalidArchive(err)
	}
	defer func() {
		if err := plain.Close(); err != nil {
			s.log.Debug("archive's decompression ended", "err", err)
		}
	}()
	desc, err := archive.ImportIndex(ctx, s.content(), plain)
	if err != nil {
		return index, invalidArchive(err)
	}
	if err := s.readJSON(ctx, desc, &index); err != nil {
		return index, fmt.Errorf("read index of archive: %w", err)
	}
	return index, nil
}

func invalidArchive(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the archive cannot be loaded, give a tar of \"docker save\" or an OCI layout: %v", err))
}

// foreign says that an image is for another platform than containers run on.
func (s *Store) foreign(m ocispec.Descriptor) bool {
	return m.Platform != nil && !s.matcher.Match(*m.Platform)
}

// archiveName is the name that an archive gives an image, "" if none.
func archiveName(m ocispec.Descriptor) string {
	if name := m.Annotations[images.AnnotationImageName]; name != "" {
		return name
	}
	return m.Annotations[ocispec.AnnotationRefName]
}

// loadOne unpacks an image of the archive and then names it. One for another
// platform is kept as it is: it can be shown, tagged, saved and pushed.
func (s *Store) loadOne(ctx context.Context, m ocispec.Descriptor, progress Progress) error {
	matcher := s.matcher
	if s.foreign(m) {
		matcher = platforms.Only(*m.Platform)
	}
	handler := images.SetChildrenLabels(s.content(), images.FilterPlatforms(images.ChildrenHandler(s.content()), matcher))
	if err := images.WalkNotEmpty(ctx, handler, m); err != nil {
		return invalidArchive(err)
	}
	if !s.foreign(m) {
		if err := s.unpack(ctx, m); err != nil {
			return invalidArchive(err)
		}
	}
	id := m.Digest.String()
	name := archiveName(m)
	target := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, Platform: m.Platform}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		_, err := s.names().Create(ctx, images.Image{Name: danglingName(m.Digest), Target: target})
		if err != nil && !errdefs.IsAlreadyExists(err) {
			return fmt.Errorf("keep image %s: %w", id, err)
		}
		progress(jsonstream.Message{Stream: "Loaded image ID: " + id + "\n"})
		s.publish(events.ActionLoad, id, id, nil)
		return nil
	}
	named = reference.TagNameOnly(named)
	if err := s.name(ctx, named.String(), target); err != nil {
		return err
	}
	progress(jsonstream.Message{Stream: "Loaded image: " + reference.FamiliarString(named) + "\n"})
	s.publish(events.ActionLoad, id, reference.FamiliarString(named), nil)
	return nil
}

// Save writes images as a tar that Load and docker take.
func (s *Store) Save(ctx context.Context, refs []string, w io.Writer) error {
	opts := []archive.ExportOpt{archive.WithPlatform(s.matcher), archive.WithSkipNonDistributableBlobs()}
	for _, ref := range refs {
		img, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		if img.Ref != "" {
			opts = append(opts, archive.WithManifest(img.Target, img.Ref))
		} else {
			opts = append(opts, archive.WithManifest(img.Target))
		}
		defer s.publish(events.ActionSave, img.ID(), img.ID(), nil)
	}
	if err := archive.Export(ctx, s.content(), w, opts...); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}
