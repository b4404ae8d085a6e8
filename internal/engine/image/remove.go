// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"

	"byre.dev/byre/internal/engine/filter"
)

// Remove takes a name away from an image, or by ID the image with all its
// names. An image without names goes, unless containers use it; force removes
// it in spite of several names and stopped containers.
func (s *Store) Remove(ctx context.Context, ref string, force bool) ([]image.DeleteResponse, error) {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if img.Ref == "" {
		return s.removeByID(ctx, img, force)
	}
	if named := countNamed(img.Records); named > 1 {
		return s.untag(ctx, img, namedBy(img))
	}
	if !force {
		if u := s.use(img, false); u != nil {
			return nil, conflict("unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
				ref, short(u.Container), shortID(img))
		}
	}
	if u := s.use(img, true); u != nil {
		// A running container keeps its image; the name goes.
		if err := s.keepDangling(ctx, img.Records[0]); err != nil {
			return nil, err
		}
		return s.untag(ctx, img, namedBy(img))
	}
	return s.delete(ctx, img)
}

func (s *Store) removeByID(ctx context.Context, img Image, force bool) ([]image.DeleteResponse, error) {
	if u := s.use(img, true); u != nil {
		return nil, conflict("unable to delete %s (cannot be forced) - image is being used by running container %s", shortID(img), short(u.Container))
	}
	if !force {
		if len(repositories(img)) > 1 {
			return nil, conflict("unable to delete %s (must be forced) - image is referenced in multiple repositories", shortID(img))
		}
		if u := s.use(img, false); u != nil {
			return nil, conflict("unable to delete %s (must be forced) - image is being used by stopped container %s", shortID(img), short(u.Container))
		}
	}
	return s.delete(ctx, img)
}

// use returns a container that uses the image.
func (s *Store) use(img Image, running bool) *Use {
	for _, u := range s.cfg.Uses() {
		if u.Image == img.ID() && (u.Running || !running) {
			return &u
		}
	}
	return nil
}

func countNamed(records []images.Image) int {
	n := 0
	for _, r := range records {
		if !isDangling(r.Name) {
			n++
		}
	}
	return n
}

// namedBy returns the records by which the image was found: that of the tag,
// or those of the repository of a digest.
func namedBy(img Image) []images.Image {
	var found []images.Image
	want, _ := reference.ParseNormalizedNamed(img.Ref)
	_, digested := want.(reference.Canonical)
	for _, r := range img.Records {
		n := parseName(r.Name)
		if r.Name == img.Ref || digested && n != nil && n.Name() == want.Name() {
			found = append(found, r)
		}
	}
	return found
}

func repositories(img Image) []string {
	var repos []string
	for _, r := range img.Records {
		if n := parseName(r.Name); n != nil && !slices.Contains(repos, n.Name()) {
			repos = append(repos, n.Name())
		}
	}
	return repos
}

func (s *Store) untag(ctx context.Context, img Image, records []images.Image) ([]image.DeleteResponse, error) {
	labels := s.labels(ctx, img.ID())
	var resp []image.DeleteResponse
	for _, r := range records {
		if err := s.names().Delete(ctx, r.Name); err != nil && !errdefs.IsNotFound(err) {
			return resp, fmt.Errorf("untag %s: %w", r.Name, err)
		}
		if n := parseName(r.Name); n != nil {
			resp = append(resp, image.DeleteResponse{Untagged: reference.FamiliarString(n)})
			s.publishLabeled(events.ActionUnTag, img.ID(), img.ID(), labels)
		}
	}
	return resp, nil
}

// delete removes every name and lets containerd collect what nothing holds;
// the last removal waits for that.
func (s *Store) delete(ctx context.Context, img Image) ([]image.DeleteResponse, error) {
	last, labels := len(img.Records)-1, s.labels(ctx, img.ID())
	resp, err := s.untag(ctx, img, img.Records[:last])
	if err != nil {
		return resp, err
	}
	r := img.Records[last]
	if err := s.names().Delete(ctx, r.Name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
		return resp, fmt.Errorf("delete image %s: %w", r.Name, err)
	}
	if n := parseName(r.Name); n != nil {
		resp = append(resp, image.DeleteResponse{Untagged: reference.FamiliarString(n)})
		s.publishLabeled(events.ActionUnTag, img.ID(), img.ID(), labels)
	}
	s.publishLabeled(events.ActionDelete, img.ID(), img.ID(), labels)
	return append(resp, image.DeleteResponse{Deleted: img.ID()}), nil
}

// Prune removes the images that no container uses: those without a name, or
// all when the filter dangling is false.
func (s *Store) Prune(ctx context.Context, f filter.Args) (image.PruneReport, error) {
	report := image.PruneReport{}
	if err := f.Check("dangling", "label", "until"); err != nil {
		return report, err
	}
	danglingOnly, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	sel, err := s.selection(ctx, filter.Args{"label": f["label"], "label!": f["label!"], "until": f["until"]})
	if err != nil {
		return report, err
	}
	all, err := s.All(ctx)
	if err != nil {
		return report, err
	}
	for _, img := range all {
		sum, labels, created, err := s.summary(ctx, img)
		if err != nil || danglingOnly && len(sum.RepoTags) > 0 || s.use(img, false) != nil || !sel.match(img, sum, labels, created) {
			continue
		}
		deleted, err := s.delete(ctx, img)
		report.ImagesDeleted = append(report.ImagesDeleted, deleted...)
		if err != nil {
			return report, err
		}
		report.SpaceReclaimed += uint64(sum.Size)
	}
	s.cfg.Events.Publish(events.ImageEventType, events.ActionPrune, "", map[string]string{
		"reclaimed": fmt.Sprint(report.SpaceReclaimed), "at": time.Now().UTC().Format(time.RFC3339),
	})
	return report, nil
}

func conflict(format string, args ...any) error {
	return errdefs.ErrConflict.WithMessage("conflict: " + fmt.Sprintf(format, args...))
}

func shortID(img Image) string { return short(img.Target.Digest.Encoded()) }

func short(id string) string { return id[:min(12, len(id))] }
