// SPDX-License-Identifier: Apache-2.0

// Package image keeps images in the embedded containerd and shows them as
// Docker does: names, IDs, tags and digests; pull, load, save, tag and removal.
//
// An image's ID is the digest of what its name points to, a manifest or an
// index, as in dockerd with containerd's image store. An image without a name
// is kept under one that starts with "byre-dangling@", which is never shown.
package image

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine/event"
)

// Use is a container's use of an image.
type Use struct {
	// Container is the container's ID.
	Container string
	// Image is the ID of the image that it was made from.
	Image string
	// Running says whether the container runs.
	Running bool
}

// Config is what a Store works on.
type Config struct {
	// Client is the embedded containerd.
	Client *containerd.Client
	// Snapshotter unpacks layers.
	Snapshotter string
	// Platform is what containers run on: linux on the host's architecture.
	Platform ocispec.Platform
	// Events receives what happens to images.
	Events *event.Broker
	// Uses returns the containers' uses of images.
	Uses func() []Use
	// Log receives what could not be returned; nil discards it.
	Log *slog.Logger
}

// Store is the images of the engine. It is safe for concurrent use.
type Store struct {
	cfg     Config
	matcher platforms.MatchComparer
	log     *slog.Logger
	// naming is held by whoever looks where a name points and changes that.
	naming sync.Mutex

	// mu guards details, which remembers what was read of manifests.
	mu      sync.Mutex
	details map[digest.Digest]*Detail
}

// New returns the store of images in a containerd.
func New(cfg Config) *Store {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{cfg: cfg, matcher: platforms.Only(cfg.Platform), log: log, details: map[digest.Digest]*Detail{}}
}

func (s *Store) content() content.Store { return s.cfg.Client.ContentStore() }
func (s *Store) names() images.Store    { return s.cfg.Client.ImageService() }
func (s *Store) snapshots() snapshots.Snapshotter {
	return s.cfg.Client.SnapshotService(s.cfg.Snapshotter)
}

// danglingPrefix starts the names of images that have none.
const danglingPrefix = "byre-dangling@"

func danglingName(d digest.Digest) string { return danglingPrefix + d.String() }

func isDangling(name string) bool { return strings.HasPrefix(name, danglingPrefix) }

// Image is an image found: its names and what they point to.
type Image struct {
	// Ref is the name by which it was found, "" if by its ID.
	Ref string
	// Target is what the names point to.
	Target ocispec.Descriptor
	// Records are containerd's records of all its names.
	Records []images.Image
}

// ID returns the image's ID.
func (i Image) ID() string { return i.Target.Digest.String() }

// Tags returns the names of the image as users write them.
func (i Image) Tags() []string {
	var tags []string
	for _, r := range i.Records {
		if named := parseName(r.Name); named != nil {
			if _, ok := named.(reference.Tagged); ok {
				tags = append(tags, reference.FamiliarString(named))
			}
		}
	}
	return tags
}

// Digests returns the image's digests in its repositories.
func (i Image) Digests() []string {
	var digests []string
	seen := map[string]bool{}
	for _, r := range i.Records {
		named := parseName(r.Name)
		if named == nil {
			continue
		}
		d := reference.FamiliarName(named) + "@" + i.Target.Digest.String()
		if !seen[d] {
			seen[d] = true
			digests = append(digests, d)
		}
	}
	return digests
}

func parseName(name string) reference.Named {
	if isDangling(name) {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	return named
}

// Get finds an image by name, ID or the start of its ID. What is not found is
// errdefs' ErrNotFound, in Docker's words.
func (s *Store) Get(ctx context.Context, ref string) (Image, error) {
	all, err := s.names().List(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("list images: %w", err)
	}
	return find(all, ref)
}

// find looks for ref among the records: a full ID, a name, then the start of
// an ID.
func find(all []images.Image, ref string) (Image, error) {
	if d, ok := fullID(ref); ok {
		if img, ok := byDigest(all, d); ok {
			return img, nil
		}
		return Image{}, noSuchImage(ref)
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Image{}, errdefs.ErrInvalidArgument.WithMessage(invalidReference(err))
	}
	if img, ok := byName(all, named); ok {
		return img, nil
	}
	return byShortID(all, ref, named)
}

// invalidReference says once what the error may say already.
func invalidReference(err error) string {
	const what = "invalid reference format"
	if strings.HasPrefix(err.Error(), what) {
		return err.Error()
	}
	return what + ": " + err.Error()
}

func fullID(ref string) (digest.Digest, bool) {
	if d, err := digest.Parse(ref); err == nil {
		return d, true
	}
	d := digest.NewDigestFromEncoded(digest.SHA256, ref)
	return d, d.Validate() == nil
}

func byDigest(all []images.Image, d digest.Digest) (Image, bool) {
	var img Image
	for _, r := range all {
		if r.Target.Digest == d {
			img.Target = r.Target
			img.Records = append(img.Records, r)
		}
	}
	return img, len(img.Records) > 0
}

func byName(all []images.Image, named reference.Named) (Image, bool) {
	if c, ok := named.(reference.Canonical); ok {
		img, ok := byDigest(all, c.Digest())
		img.Ref = named.String()
		for _, r := range img.Records {
			if n := parseName(r.Name); n != nil && n.Name() == named.Name() {
				return img, ok
			}
		}
		return Image{}, false
	}
	name := reference.TagNameOnly(named).String()
	for _, r := range all {
		if r.Name == name {
			img, ok := byDigest(all, r.Target.Digest)
			img.Ref = name
			return img, ok
		}
	}
	return Image{}, false
}

// minShortID is how short the start of an ID may be.
const minShortID = 4

func byShortID(all []images.Image, ref string, named reference.Named) (Image, error) {
	notFound := noSuchImage(reference.FamiliarString(reference.TagNameOnly(named)))
	prefix := strings.TrimPrefix(ref, "sha256:")
	if len(prefix) < minShortID || strings.Trim(prefix, "0123456789abcdef") != "" {
		return Image{}, notFound
	}
	var found digest.Digest
	for _, r := range all {
		if !strings.HasPrefix(r.Target.Digest.Encoded(), prefix) {
			continue
		}
		if found != "" && found != r.Target.Digest {
			return Image{}, errdefs.ErrNotFound.WithMessage("ambiguous reference: " + ref)
		}
		found = r.Target.Digest
	}
	if found == "" {
		return Image{}, notFound
	}
	img, _ := byDigest(all, found)
	return img, nil
}

func noSuchImage(ref string) error {
	return errdefs.ErrNotFound.WithMessage("No such image: " + ref)
}

// publish sends an image's event, with the labels that it has, if it is still
// there.
func (s *Store) publish(ctx context.Context, action events.Action, id, name string) {
	s.publishLabeled(action, id, name, s.labels(context.WithoutCancel(ctx), id))
}

// labels are those of an image, none if it cannot be read.
func (s *Store) labels(ctx context.Context, ref string) map[string]string {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil
	}
	d, err := s.Shown(ctx, img, nil)
	if err != nil {
		return nil
	}
	return d.Config.Config.Labels
}

func (s *Store) publishLabeled(action events.Action, id, name string, labels map[string]string) {
	attributes := map[string]string{}
	maps.Copy(attributes, labels)
	attributes["name"] = name
	s.cfg.Events.Publish(events.ImageEventType, action, id, attributes)
}
