// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress takes the messages that a long operation shows its user.
type Progress func(jsonstream.Message)

// PullRequest says what to pull.
type PullRequest struct {
	// Name and Tag (or digest) of the image; an empty tag means latest.
	Name, Tag string
	// Platform to pull; nil means the engine's own.
	Platform *ocispec.Platform
	// Auth are the user's credentials; nil means none.
	Auth *registry.AuthConfig
}

// Pull fetches an image from its registry and unpacks it. Registries on the
// loopback interface are spoken to without TLS.
func (s *Store) Pull(ctx context.Context, req PullRequest, progress Progress) error {
	named, err := pullName(req.Name, req.Tag)
	if err != nil {
		return err
	}
	ref := reference.TagNameOnly(named).String()
	before, _ := s.names().Get(ctx, ref)
	resolver := newResolver(req.Auth, named)
	_, desc, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return remoteError("pull", named, err)
	}
	progress(jsonstream.Message{ID: pullID(named), Status: "Pulling from " + reference.Path(named)})
	img, err := s.fetch(ctx, ref, resolver, req.Platform, progress)
	if err != nil {
		return remoteError("pull", named, err)
	}
	if before.Target.Digest != "" && before.Target.Digest != img.Target().Digest {
		if err := s.keepDangling(ctx, images.Image{Target: before.Target}); err != nil {
			return err
		}
	}
	status := "Downloaded newer image for "
	if before.Target.Digest == img.Target().Digest {
		status = "Image is up to date for "
	}
	progress(jsonstream.Message{Status: "Digest: " + desc.Digest.String()})
	progress(jsonstream.Message{Status: "Status: " + status + reference.FamiliarString(reference.TagNameOnly(named))})
	s.publish(ctx, events.ActionPull, reference.FamiliarString(named), reference.FamiliarName(named))
	return s.dropDangling(ctx, img.Target().Digest)
}

func pullName(name, tag string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(invalidReference(err))
	}
	switch {
	case tag == "":
		return reference.TagNameOnly(named), nil
	case strings.Contains(tag, ":"):
		named, err = reference.ParseNormalizedNamed(reference.TrimNamed(named).String() + "@" + tag)
	default:
		named, err = reference.WithTag(reference.TrimNamed(named), tag)
	}
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(invalidReference(err))
	}
	return named, nil
}

func pullID(named reference.Named) string {
	switch n := named.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return "latest"
}

// fetch pulls and unpacks, showing how far it is.
func (s *Store) fetch(ctx context.Context, ref string, resolver remotes.Resolver, platform *ocispec.Platform, progress Progress) (containerd.Image, error) {
	matcher := s.matcher
	if platform != nil {
		matcher = platforms.Only(*platform)
	}
	jobs := newTracker(ctx, s, progress)
	img, err := s.cfg.Client.Pull(ctx, ref,
		containerd.WithResolver(resolver),
		containerd.WithPlatformMatcher(matcher),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(s.cfg.Snapshotter),
		containerd.WithMaxConcurrentDownloads(3),
		containerd.WithImageHandler(jobs.handler()),
	)
	jobs.stop(err == nil)
	if isSpoilt(err) {
		s.dropSpoilt(ctx, err)
	}
	return img, err
}

// isSpoilt tells whether a blob that came has another digest or size than its
// name says. containerd has no sentinel for it.
func isSpoilt(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "unexpected commit digest") || strings.Contains(err.Error(), "unexpected commit size"))
}

// dropSpoilt gives up the blobs that err names: containerd keeps what came of
// them, and the next pull would go on from there.
func (s *Store) dropSpoilt(ctx context.Context, err error) {
	ctx = context.WithoutCancel(ctx)
	partial, listErr := s.content().ListStatuses(ctx)
	if listErr != nil {
		s.log.Warn("what came of a spoilt image stays until it is collected", "err", listErr)
		return
	}
	for _, p := range partial {
		if !strings.Contains(err.Error(), strconv.Quote(p.Ref)) {
			continue
		}
		if abortErr := s.content().Abort(ctx, p.Ref); abortErr != nil && !errdefs.IsNotFound(abortErr) {
			s.log.Warn("what came of a spoilt blob stays until it is collected", "blob", p.Ref, "err", abortErr)
		}
	}
}

// newResolver speaks to the registry of an image with the user's credentials.
func newResolver(auth *registry.AuthConfig, named reference.Named) remotes.Resolver {
	return newTrackedResolver(auth, named, nil)
}

// newTrackedResolver notes uploads in the tracker as well.
func newTrackedResolver(auth *registry.AuthConfig, named reference.Named, uploads docker.StatusTracker) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Tracker: uploads,
		Hosts: docker.ConfigureDefaultRegistries(
			docker.WithAuthorizer(newAuthorizer(auth, reference.Domain(named))),
			docker.WithPlainHTTP(docker.MatchLocalhost),
		),
	})
}

// newAuthorizer gives a user's credentials to the registry of that name, and to
// no host that the registry sends us to.
func newAuthorizer(auth *registry.AuthConfig, domain string) docker.Authorizer {
	if auth == nil {
		auth = &registry.AuthConfig{}
	}
	own, err := docker.DefaultHost(domain)
	if auth.RegistryToken != "" {
		return bearer{token: auth.RegistryToken, host: own}
	}
	return docker.NewDockerAuthorizer(docker.WithAuthCreds(func(host string) (string, string, error) {
		switch {
		case err != nil || host != own:
			return "", "", err
		case auth.IdentityToken != "":
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}))
}

// bearer authorizes with a token that the user already has, at one registry.
type bearer struct{ token, host string }

func (b bearer) Authorize(_ context.Context, req *http.Request) error {
	if req.URL.Host == b.host {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return errdefs.ErrNotImplemented
}

// remoteError puts a registry's answer in Docker's words.
func remoteError(verb string, named reference.Named, err error) error {
	name := reference.FamiliarString(named)
	status, ok := errors.AsType[remoteserrors.ErrUnexpectedStatus](err)
	if errors.Is(err, docker.ErrInvalidAuthorization) ||
		ok && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"%s access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
			verb, reference.FamiliarName(named)))
	}
	if errdefs.IsNotFound(err) {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s not found: manifest unknown: %v", name, err))
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s %s: the registry %s cannot be reached: %w: see that its name is right and that this host reaches it, or load the image from a file",
			verb, name, reference.Domain(named), err)
	}
	if isSpoilt(err) {
		return fmt.Errorf("%s %s: what came is not what the image names: %w: try again; if it comes again, the registry's copy is damaged",
			verb, name, err)
	}
	return fmt.Errorf("%s %s: %w", verb, name, err)
}
