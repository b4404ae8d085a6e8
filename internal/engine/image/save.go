// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Saved is images found to be saved.
type Saved struct {
	store    *Store
	opts     []archive.ExportOpt
	ids      []string
	platform *ocispec.Platform
}

// Save finds images to save. A repository without a tag stands for all its
// tags, an ID or digest for an image that has no name in the archive. Without
// platforms all that are here are saved; of one alone its manifest is.
func (s *Store) Save(ctx context.Context, refs []string, list []ocispec.Platform) (*Saved, error) {
	a := &Saved{store: s, opts: []archive.ExportOpt{archive.WithSkipNonDistributableBlobs(), archive.WithSkipMissing(s.content())}}
	here := list
	if len(list) == 1 {
		a.platform = &list[0]
	}
	for _, ref := range refs {
		found, err := s.named(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, img := range found {
			for _, p := range list {
				if _, err := s.strict(ctx, img, p); err != nil {
					return nil, err
				}
			}
			if len(list) == 0 {
				if here, err = s.addPresent(ctx, here, img); err != nil {
					return nil, err
				}
			}
			if err := a.add(ctx, img); err != nil {
				return nil, err
			}
		}
	}
	a.opts = append(a.opts, archive.WithPlatform(s.wanted(here)))
	return a, nil
}

// addPresent adds the platforms of an index whose manifests are here: of the
// first of them, by preference, older engines read the image.
func (s *Store) addPresent(ctx context.Context, list []ocispec.Platform, img Image) ([]ocispec.Platform, error) {
	if !images.IsIndexType(img.Target.MediaType) {
		return list, nil
	}
	index, err := s.readIndex(ctx, img.Target)
	if err != nil {
		return nil, err
	}
	for _, m := range index.Manifests {
		if _, err := s.content().Info(ctx, m.Digest); err == nil && m.Platform != nil {
			list = append(list, *m.Platform)
		}
	}
	return list, nil
}

// named finds what a reference stands for: one image, or all of a repository.
func (s *Store) named(ctx context.Context, ref string) ([]Image, error) {
	img, getErr := s.Get(ctx, ref)
	named, err := reference.ParseNormalizedNamed(ref)
	if getErr == nil && img.Ref == "" || err != nil || !reference.IsNameOnly(named) {
		return []Image{img}, getErr
	}
	records, err := s.names().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var all []Image
	for _, r := range records {
		if n := parseName(r.Name); n != nil && n.Name() == named.Name() {
			all = append(all, Image{Ref: r.Name, Target: r.Target, Records: []images.Image{r}})
		}
	}
	if len(all) == 0 {
		return nil, getErr
	}
	return all, nil
}

func (a *Saved) add(ctx context.Context, img Image) error {
	target := img.Target
	if a.platform != nil {
		d, err := a.store.strict(ctx, img, *a.platform)
		if err != nil {
			return err
		}
		target = d.Manifest
	}
	target.Annotations = maps.Clone(target.Annotations)
	maps.DeleteFunc(target.Annotations, func(k, _ string) bool {
		return slices.Contains([]string{images.AnnotationImageName, ocispec.AnnotationRefName}, k)
	})
	var names []string
	if named := parseName(img.Ref); img.Ref != "" && named != nil {
		if _, digested := named.(reference.Digested); !digested {
			names = append(names, img.Ref)
		}
	}
	a.opts = append(a.opts, archive.WithManifest(target, names...))
	a.ids = append(a.ids, img.ID())
	return nil
}

// Write writes the images as a tar that Load and docker take.
func (a *Saved) Write(ctx context.Context, w io.Writer) error {
	if err := archive.Export(ctx, a.store.content(), w, a.opts...); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	for _, id := range a.ids {
		a.store.publish(ctx, events.ActionSave, id, id)
	}
	return nil
}
