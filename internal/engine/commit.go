// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine/change"
	"byre.dev/byre/internal/engine/image"
	"byre.dev/byre/internal/shimapi"
)

// Changes lists what a container has changed in its root file system.
func (e *Engine) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, err
	}
	if c.snapshot().Untouched {
		return nil, nil
	}
	var changes []container.FilesystemChange
	err = e.withShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		stream, err := shim.Changes(ctx, &shimapi.ChangesRequest{ContainerId: c.id})
		if err != nil {
			return err
		}
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, ch := range r.GetChanges() {
				changes = append(changes, container.FilesystemChange{Kind: container.ChangeType(ch.GetKind()), Path: asText(ch.GetPath())})
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list changes of container %s: %w", short(c.id), err)
	}
	return changes, nil
}

// asText keeps a name of the guest's one that JSON can hold.
func asText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

// Export writes a tar of a container's root file system, without its volumes, to
// the writer that open returns once the tar is about to come.
func (e *Engine) Export(ctx context.Context, ref string, open func() io.Writer) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	return e.withShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		e.publish(c, events.ActionExport, nil)
		if err := shim.CopyRoot(ctx, &shimapi.ReadRootRequest{ContainerId: c.id}, open()); err != nil {
			return fmt.Errorf("export container %s: %w", short(c.id), err)
		}
		return nil
	})
}

// CommitRequest says how an image is made from a container.
type CommitRequest struct {
	// Name is the image's; nil for none.
	Name reference.Named
	// Author and Comment go into its history.
	Author, Comment string
	// Pause stops the container's processes while it is read.
	Pause bool
	// Config, where not nil, comes before the container's own configuration.
	Config *container.Config
	// Changes are instructions of a Dockerfile.
	Changes []string
}

// Commit makes an image of a container's image and what was changed since. It
// returns the image's ID.
func (e *Engine) Commit(ctx context.Context, ref string, req CommitRequest) (id string, err error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return "", err
	}
	r := c.snapshot()
	n := image.NewImage{
		Name: req.Name, Author: req.Author, Comment: req.Comment, CreatedBy: strings.Join(r.Config.Cmd, " "), Platform: e.Platform(),
	}
	if n.Config, err = commitConfig(r.Config, req); err != nil {
		return "", err
	}
	if r.Manifest == nil {
		return "", conflict("container %s has no record of its image", c.id)
	}
	if n.Base, err = e.Images.Detail(ctx, *r.Manifest, nil); err != nil {
		return "", fmt.Errorf("commit container %s: image %s: %w", short(c.id), r.Image, err)
	}
	if req.Pause && r.State.Running && !r.State.Paused && !r.State.Restarting {
		if err := e.freeze(ctx, c.id, true); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, e.freeze(context.WithoutCancel(ctx), c.id, false)) }()
	}
	n.Layer = func(w io.Writer) error {
		if c.snapshot().Untouched {
			return nil // no machine is started to find nothing changed
		}
		return e.withShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
			return shim.CopyRoot(ctx, &shimapi.ReadRootRequest{ContainerId: c.id, Changed: true}, w)
		})
	}
	digest, err := e.Images.Make(ctx, n)
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", short(c.id), err)
	}
	attributes := map[string]string{"comment": req.Comment, "imageID": digest.String(), "imageRef": ""}
	if req.Name != nil {
		attributes["imageRef"] = reference.FamiliarString(req.Name)
	}
	e.publish(c, events.ActionCommit, attributes)
	return digest.String(), nil
}

// commitConfig makes an image's configuration out of a container's.
func commitConfig(own *container.Config, req CommitRequest) (dockerspec.DockerOCIImageConfig, error) {
	cfg := *own
	if req.Config != nil {
		base := imageConfig(own)
		cfg = *mergeConfig(req.Config, &base)
	}
	cfg, err := change.Apply(cfg, req.Changes)
	return imageConfig(&cfg), err
}

// imageConfig is the part of a container's configuration that images have.
func imageConfig(c *container.Config) dockerspec.DockerOCIImageConfig {
	var ports map[string]struct{}
	for p := range c.ExposedPorts {
		if ports == nil {
			ports = map[string]struct{}{}
		}
		ports[p.String()] = struct{}{}
	}
	return dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			User: c.User, ExposedPorts: ports, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes,
			WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{Healthcheck: c.Healthcheck, OnBuild: c.OnBuild, Shell: c.Shell},
	}
}

// ImportRequest says how an image is made from a tar.
type ImportRequest struct {
	// Name is the image's; nil for none.
	Name reference.Named
	// Comment goes into its history.
	Comment string
	// Changes are instructions of a Dockerfile.
	Changes []string
	// Platform is what the tar is for; nil means the engine's own.
	Platform *ocispec.Platform
}

// Import makes an image of a tar and returns its ID.
func (e *Engine) Import(ctx context.Context, r io.Reader, req ImportRequest) (string, error) {
	cfg, err := change.Apply(container.Config{}, req.Changes)
	if err != nil {
		return "", err
	}
	platform := e.Platform()
	if req.Platform != nil {
		platform = *req.Platform
	}
	id, err := e.Images.Import(ctx, r, image.NewImage{
		Name: req.Name, Comment: req.Comment, Config: imageConfig(&cfg), Platform: platform,
	})
	return id.String(), err
}
