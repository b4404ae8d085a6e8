// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load takes images from a tar of "docker save" or an OCI layout, compressed
// or not, with all platforms that it has of them or with those that are named,
// and unpacks what containers run on here. No name moves before its image is
// whole.
func (s *Store) Load(ctx context.Context, r io.Reader, list []ocispec.Platform, progress Progress) error {
	ctx, release, err := s.cfg.Client.WithLease(ctx)
	if err != nil {
		return fmt.Errorf("load images: %w", err)
	}
	defer func() {
		if err := release(context.WithoutCancel(ctx)); err != nil {
			s.log.Warn("lease not released", "err", err)
		}
		if len(list) > 0 {
			s.collect(context.WithoutCancel(ctx))
		}
	}()
	index, err := s.importIndex(ctx, r)
	if err != nil {
		return err
	}
	l := loader{store: s, matcher: s.wanted(list), progress: progress}
	loaded := 0
	for _, m := range index.Manifests {
		if isAttestation(m) || !l.first(m, index.Manifests) {
			continue
		}
		switch found, err := l.load(ctx, m); {
		case err != nil:
			return err
		case found:
			loaded++
		}
	}
	switch {
	case loaded == 0 && len(list) > 0:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("the archive holds no image for %s", formatAll(list)))
	case loaded == 0:
		return errdefs.ErrInvalidArgument.WithMessage("the archive holds no image")
	}
	return l.failed
}

// collect removes what nothing holds: until then a platform that was not wanted
// would be shown as one that is here.
func (s *Store) collect(ctx context.Context) {
	manager := s.cfg.Client.LeasesService()
	l, err := manager.Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Minute))
	if err == nil {
		err = manager.Delete(ctx, l, leases.SynchronousDelete)
	}
	if err != nil {
		s.log.Warn("content not collected", "err", err)
	}
}

func formatAll(list []ocispec.Platform) string {
	var names []string
	for _, p := range list {
		names = append(names, platforms.FormatAll(p))
	}
	return strings.Join(names, ", ")
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

// archiveName is the name that an archive gives an image, "" if none.
func archiveName(m ocispec.Descriptor) string {
	if name := m.Annotations[images.AnnotationImageName]; name != "" {
		return name
	}
	return m.Annotations[ocispec.AnnotationRefName]
}

// loader takes the images of one archive.
type loader struct {
	store    *Store
	matcher  platforms.MatchComparer
	progress Progress
	// failed tells of images that are kept and cannot be run.
	failed error
}

// first says that of the manifests which an archive gives one name this is the
// one to load: an archive may hold a manifest for each platform.
func (l *loader) first(m ocispec.Descriptor, all []ocispec.Descriptor) bool {
	if m.Platform == nil || archiveName(m) == "" {
		return true
	}
	return !slices.ContainsFunc(all, func(o ocispec.Descriptor) bool {
		return o.Platform != nil && archiveName(o) == archiveName(m) && !isAttestation(o) &&
			l.matcher.Match(*o.Platform) && l.matcher.Less(*o.Platform, *m.Platform)
	})
}

// load holds what is wanted of an image of the archive, unpacks and names it.
// What is for another platform is kept as it is: it can be shown, tagged, saved
// and pushed. It returns false where the archive has no wanted platform of it.
func (l *loader) load(ctx context.Context, m ocispec.Descriptor) (bool, error) {
	s := l.store
	desc, err := s.manifestFor(ctx, m, l.matcher)
	if errdefs.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, invalidArchive(err)
	}
	d, err := s.detailOf(ctx, desc)
	if err != nil {
		return false, invalidArchive(err)
	}
	if !l.matcher.Match(d.platform()) {
		return false, nil
	}
	handler := images.SetChildrenMappedLabels(s.content(), images.FilterPlatforms(l.children, l.matcher), heldByDigest)
	if err := images.WalkNotEmpty(ctx, handler, m); err != nil {
		return false, invalidArchive(err)
	}
	target := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, Platform: m.Platform}
	named, err := reference.ParseNormalizedNamed(archiveName(m))
	if err != nil {
		named = nil
	}
	if err := l.unpack(ctx, target, named); err != nil {
		return false, err
	}
	return true, l.name(ctx, target, named)
}

// children leaves out the manifests that the archive lacks.
func (l *loader) children(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	children, err := images.Children(ctx, l.store.content(), desc)
	if err != nil || !images.IsIndexType(desc.MediaType) {
		return children, err
	}
	return slices.DeleteFunc(children, func(c ocispec.Descriptor) bool {
		_, err := l.store.content().Info(ctx, c.Digest)
		return errdefs.IsNotFound(err)
	}), nil
}

// heldByDigest labels what an image holds by what it is: another archive may have
// other parts of the same image.
func heldByDigest(child ocispec.Descriptor) []string {
	return []string{"containerd.io/gc.ref.content.byre-" + child.Digest.Encoded()}
}

// unpack unpacks what containers run on here. An image whose layers are damaged
// is kept, as dockerd does, unless it would take the name of another.
func (l *loader) unpack(ctx context.Context, target ocispec.Descriptor, named reference.Named) error {
	s := l.store
	runnable, err := s.runnable(ctx, target)
	if err != nil {
		return invalidArchive(err)
	}
	if !runnable {
		return nil
	}
	err = s.unpack(ctx, target)
	if err == nil {
		return nil
	}
	err = invalidArchive(err)
	if named == nil || ctx.Err() != nil {
		return err
	}
	if _, taken := s.names().Get(ctx, reference.TagNameOnly(named).String()); !errdefs.IsNotFound(taken) {
		return err
	}
	l.failed = errors.Join(l.failed, err)
	return nil
}

// name names a loaded image; one without a name is kept dangling.
func (l *loader) name(ctx context.Context, target ocispec.Descriptor, named reference.Named) error {
	s, id := l.store, target.Digest.String()
	if named == nil {
		_, err := s.names().Create(ctx, images.Image{Name: danglingName(target.Digest), Target: target})
		if err != nil && !errdefs.IsAlreadyExists(err) {
			return fmt.Errorf("keep image %s: %w", id, err)
		}
		l.progress(jsonstream.Message{Stream: "Loaded image ID: " + id + "\n"})
		s.publish(ctx, events.ActionLoad, id, id)
		return nil
	}
	named = reference.TagNameOnly(named)
	if err := s.name(ctx, named.String(), target); err != nil {
		return err
	}
	l.progress(jsonstream.Message{Stream: "Loaded image: " + reference.FamiliarString(named) + "\n"})
	s.publish(ctx, events.ActionLoad, id, reference.FamiliarString(named))
	return nil
}
