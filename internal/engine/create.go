// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"byre.dev/byre/internal/engine/image"
	"byre.dev/byre/internal/engine/request"
	"byre.dev/byre/internal/engine/spec"
)

// CreateRequest is a request to create a container, checked field by field
// (package request) before it gets here.
type CreateRequest struct {
	// Name is the container's; empty means one made up.
	Name string
	// Platform is what the image must be for; nil means the engine's own.
	Platform *ocispec.Platform
	container.CreateRequest
}

// Create makes a container. Nothing is left behind when it fails.
func (e *Engine) Create(ctx context.Context, req CreateRequest) (container.CreateResponse, error) {
	var resp container.CreateResponse
	if req.Config == nil {
		return resp, invalid("Config cannot be empty in order to create a container")
	}
	if err := checkName(req.Name); err != nil {
		return resp, err
	}
	img, detail, err := e.imageFor(ctx, req)
	if err != nil {
		return resp, err
	}
	rec := Record{ID: newID(), Created: time.Now().UTC(), Image: img.ID(), Manifest: &detail.Manifest}
	if err := e.complete(&rec, req, detail); err != nil {
		return resp, err
	}
	if rec.Name, err = e.containers.nameFor(req.Name, rec.ID); err != nil {
		return resp, err
	}
	m := &mounting{Engine: e}
	// Until then nobody knows what the container uses.
	defer m.release()
	if err := m.materialize(ctx, &rec, img, detail); err != nil {
		e.containers.release(rec.Name, rec.ID)
		return resp, err
	}
	c := newContainer(e.path("containers", rec.ID), rec, e.log)
	e.containers.add(c)
	e.publish(c, events.ActionCreate, nil)
	return container.CreateResponse{ID: rec.ID, Warnings: warnings(rec)}, nil
}

// warnings say what of a request has no effect, as dockerd does.
func warnings(rec Record) []string {
	list := []string{}
	if rec.Host.NetworkMode.IsHost() && len(rec.Host.PortBindings) > 0 {
		list = append(list, "Published ports are discarded when using host network mode")
	}
	return list
}

// namePattern is Docker's rule for names.
const namePattern = `^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$`

func checkName(name string) error {
	if name == "" {
		return nil
	}
	if ok, err := regexp.MatchString(namePattern, name); !ok || err != nil {
		return invalid("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

func (e *Engine) imageFor(ctx context.Context, req CreateRequest) (image.Image, *image.Detail, error) {
	if req.Config.Image == "" {
		return image.Image{}, nil, invalid("no image specified")
	}
	img, err := e.Images.Get(ctx, req.Config.Image)
	if err != nil {
		return img, nil, err
	}
	detail, err := e.Images.Detail(ctx, img.Target, req.Platform)
	if err != nil {
		return img, nil, err
	}
	own := ocispec.Platform{OS: detail.Config.OS, Architecture: detail.Config.Architecture, Variant: detail.Config.Variant}
	if req.Platform != nil && !platforms.Only(*req.Platform).Match(own) {
		return img, nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"image with reference %s was found but does not provide the specified platform (%s)", req.Config.Image, platforms.Format(*req.Platform)))
	}
	if !platforms.Only(e.Platform()).Match(own) {
		return img, nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"image with reference %s is for %s and machines run %s", req.Config.Image, platforms.Format(own), platforms.Format(e.Platform())))
	}
	return img, detail, nil
}

// complete fills in the record from the request and the image.
func (e *Engine) complete(rec *Record, req CreateRequest, detail *image.Detail) error {
	rec.Config, rec.Untouched = mergeConfig(req.Config, &detail.Config.Config), true
	if rec.Host = req.HostConfig; rec.Host == nil {
		rec.Host = &container.HostConfig{}
	}
	if err := e.completeShared(rec, &req); err != nil {
		return err
	}
	if rec.Host.NetworkMode.IsContainer() && rec.Config.Hostname != "" {
		return invalid("conflicting options: hostname and the network mode")
	}
	if rec.Config.Hostname == "" {
		rec.Config.Hostname = short(rec.ID)
	}
	if len(rec.Config.Entrypoint) == 0 && len(rec.Config.Cmd) == 0 {
		return invalid("no command specified")
	}
	if err := completeHost(rec); err != nil {
		return err
	}
	if err := e.completeNetwork(rec, req.NetworkingConfig); err != nil {
		return err
	}
	if err := checkConfig(rec); err != nil {
		return err
	}
	// A trial: what the specification refuses is refused now, not at the start.
	_, err := spec.Build(e.specInput(*rec, nil))
	return err
}

// materialize makes what a container has on disk: its writable snapshot, its
// volumes and its directory with the record.
func (e *mounting) materialize(ctx context.Context, rec *Record, img image.Image, detail *image.Detail) (err error) {
	dir := e.path("containers", rec.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
			defer cancel()
			err = errors.Join(err, e.tasks.Discard(clean, rec.ID), os.RemoveAll(dir))
			e.undo()
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := e.Images.Unpacked(gctx, img, detail); err != nil {
			return err
		}
		size, err := request.StorageSize(rec.Host.StorageOpt)
		if err != nil {
			return err
		}
		return e.tasks.Prepare(gctx, rec.ID, detail.ChainID(), size)
	})
	g.Go(func() error { return e.resolveMounts(rec) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := e.viewImages(ctx, rec); err != nil {
		return err
	}
	return writeRecord(dir, *rec)
}

// cleanupTimeout bounds the clearing away of what a failure left.
const cleanupTimeout = 30 * time.Second

// publish sends a container's event.
func (e *Engine) publish(c *Container, action events.Action, more map[string]string) {
	r := c.snapshot()
	attributes := map[string]string{}
	for k, v := range r.Config.Labels {
		attributes[k] = v
	}
	attributes["image"], attributes["name"] = r.Config.Image, strings.TrimPrefix(r.Name, "/")
	for k, v := range more {
		attributes[k] = v
	}
	e.Events.Publish(events.ContainerEventType, action, r.ID, attributes)
}
