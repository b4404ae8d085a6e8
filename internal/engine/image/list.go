// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine/filter"
)

// All returns every image with all its names, newest record first.
func (s *Store) All(ctx context.Context) ([]Image, error) {
	records, err := s.names().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	slices.SortStableFunc(records, func(a, b images.Image) int { return b.CreatedAt.Compare(a.CreatedAt) })
	var all []Image
	seen := map[digest.Digest]bool{}
	for _, r := range records {
		if !seen[r.Target.Digest] {
			seen[r.Target.Digest] = true
			img, _ := byDigest(records, r.Target.Digest)
			all = append(all, img)
		}
	}
	return all, nil
}

// List returns images as "docker images" shows them, newest first.
func (s *Store) List(ctx context.Context, f filter.Args) ([]image.Summary, error) {
	if err := f.Check("dangling", "label", "before", "since", "reference", "until"); err != nil {
		return nil, err
	}
	all, err := s.All(ctx)
	if err != nil {
		return nil, err
	}
	sel, err := s.selection(ctx, f)
	if err != nil {
		return nil, err
	}
	list := []image.Summary{}
	for _, img := range all {
		sum, labels, created, err := s.summary(ctx, img)
		if err != nil {
			// An image of which parts are missing does not hide the others.
			s.log.Warn("image not shown", "image", img.ID(), "err", err)
			continue
		}
		if sel.match(img, sum, labels, created) {
			sum.RepoTags = sel.narrow(sum.RepoTags)
			list = append(list, sum)
		}
	}
	slices.SortStableFunc(list, func(a, b image.Summary) int { return int(b.Created - a.Created) })
	return list, nil
}

// summary returns with it what filters look at: the labels, and when the image
// was made, to the nanosecond.
func (s *Store) summary(ctx context.Context, img Image) (image.Summary, map[string]string, time.Time, error) {
	d, err := s.Shown(ctx, img, nil)
	if err != nil {
		return image.Summary{}, nil, time.Time{}, err
	}
	size, err := s.wholeSize(ctx, img)
	if err != nil {
		return image.Summary{}, nil, time.Time{}, err
	}
	target := img.Target
	sum := image.Summary{
		ID: img.ID(), RepoTags: orEmpty(img.Tags()), RepoDigests: orEmpty(img.Digests()),
		Labels: d.Config.Config.Labels, Size: size, SharedSize: -1, Containers: -1, Descriptor: &target,
	}
	created := time.Unix(0, 0)
	if d.Config.Created != nil {
		created = *d.Config.Created
		sum.Created = created.Unix()
	}
	return sum, d.Config.Config.Labels, created, nil
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// selection is a list's filters, ready to be applied.
type selection struct {
	args          filter.Args
	dangling      *bool
	before, since time.Time
}

func (s *Store) selection(ctx context.Context, f filter.Args) (selection, error) {
	sel := selection{args: f}
	if f.Has("dangling") {
		b, err := f.Bool("dangling", false)
		if err != nil {
			return sel, err
		}
		sel.dangling = &b
	}
	for _, name := range []string{"before", "since"} {
		for _, ref := range f[name] {
			img, err := s.Get(ctx, ref)
			if err != nil {
				return sel, err
			}
			d, err := s.Shown(ctx, img, nil)
			if err != nil {
				return sel, err
			}
			if at := d.Config.Created; at != nil {
				sel.bound(name, *at)
			}
		}
	}
	for _, v := range f["until"] {
		t, err := filter.ParseTime(v, time.Now())
		if err != nil {
			return sel, err
		}
		sel.bound("before", t)
	}
	return sel, nil
}

// bound narrows the time in which images were made: all bounds hold.
func (sel *selection) bound(name string, at time.Time) {
	switch {
	case name == "since" && at.After(sel.since):
		sel.since = at
	case name == "before" && (sel.before.IsZero() || at.Before(sel.before)):
		sel.before = at
	}
}

func (sel selection) match(img Image, sum image.Summary, labels map[string]string, created time.Time) bool {
	switch {
	case sel.dangling != nil && *sel.dangling != (len(sum.RepoTags) == 0),
		!sel.before.IsZero() && !created.Before(sel.before),
		!sel.since.IsZero() && !created.After(sel.since),
		!sel.args.Labels(labels):
		return false
	}
	return !sel.args.Has("reference") || slices.ContainsFunc(img.Records, sel.matchReference)
}

// narrow leaves the tags that the filter asks for.
func (sel selection) narrow(tags []string) []string {
	if !sel.args.Has("reference") {
		return tags
	}
	return slices.DeleteFunc(tags, func(tag string) bool { return !sel.matchReference(images.Image{Name: tag}) })
}

func (sel selection) matchReference(r images.Image) bool {
	named := parseName(r.Name)
	if named == nil {
		return false
	}
	return slices.ContainsFunc(sel.args["reference"], func(pattern string) bool {
		ok, err := reference.FamiliarMatch(pattern, named)
		for _, whole := range []string{named.Name(), named.String()} {
			if !ok && err == nil {
				ok, err = path.Match(pattern, whole)
			}
		}
		return ok && err == nil
	})
}

// Inspect describes an image: as Shown reads it, or what a platform has of it.
func (s *Store) Inspect(ctx context.Context, ref string, platform *ocispec.Platform) (*image.InspectResponse, error) {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := s.Shown(ctx, img, platform)
	if err != nil {
		return nil, err
	}
	target := img.Target
	if platform != nil {
		target = d.Manifest
	}
	resp := &image.InspectResponse{
		ID: target.Digest.String(), RepoTags: orEmpty(img.Tags()), RepoDigests: orEmpty(img.Digests()),
		Author: d.Config.Author, Config: &dockerspec.DockerOCIImageConfig{
			ImageConfig: d.Config.Config.ImageConfig, DockerOCIImageConfigExt: d.Config.Config.DockerOCIImageConfigExt,
		},
		Architecture: d.Config.Architecture, Variant: d.Config.Variant, Os: d.Config.OS, OsVersion: d.Config.OSVersion,
		Size: s.size(ctx, d), Descriptor: &target,
		RootFS:   image.RootFS{Type: d.Config.RootFS.Type},
		Metadata: image.Metadata{LastTagTime: img.lastTagged()},
	}
	if d.Config.Created != nil {
		resp.Created = d.Config.Created.Format(time.RFC3339Nano)
	}
	if n := len(d.Config.History); n > 0 {
		resp.Comment = d.Config.History[n-1].Comment
	}
	for _, id := range d.Config.RootFS.DiffIDs {
		resp.RootFS.Layers = append(resp.RootFS.Layers, id.String())
	}
	return resp, nil
}

func (i Image) lastTagged() time.Time {
	var last time.Time
	for _, r := range i.Records {
		if r.UpdatedAt.After(last) {
			last = r.UpdatedAt
		}
	}
	return last
}

// History returns the steps that made an image, newest first: as Shown reads
// it, or as a platform has it.
func (s *Store) History(ctx context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := s.Shown(ctx, img, platform)
	if err != nil {
		return nil, err
	}
	items := []image.HistoryResponseItem{}
	layer := 0
	for _, h := range d.Config.History {
		item := image.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && layer < len(d.Config.RootFS.DiffIDs) {
			layer++
			item.Size = s.layerSize(ctx, d.Config.RootFS.DiffIDs[:layer])
		}
		items = append(items, item)
	}
	slices.Reverse(items)
	if len(items) > 0 {
		items[0].ID, items[0].Tags = img.ID(), img.Tags()
	}
	return items, nil
}
