// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"io/fs"
	"path"

	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/shimapi"
)

// An image that is mounted (--mount type=image) is a read-only snapshot of the
// container's: it stays when the image's name goes.

// imageMount reads --mount type=image. The image is looked up by viewImages.
func imageMount(r Mount, m mount.Mount) (_ Mount, err error) {
	if m.Source == "" {
		return r, invalid("invalid mount config for type \"image\": field Source must not be empty")
	}
	r.Name, r.ReadOnly = m.Source, true
	if m.ImageOptions != nil {
		r.Subpath, err = subpath(m.Type, m.ImageOptions.Subpath)
	}
	return r, err
}

// subpath checks a path within a volume or an image, where it can be seen that
// it leads out: links are for the guest to see.
func subpath(kind mount.Type, p string) (string, error) {
	if p == "" {
		return "", nil
	}
	clean := path.Clean(p)
	if !fs.ValidPath(clean) {
		return "", invalid("invalid mount config for type %q: subpath must be a relative path within the volume", kind)
	}
	if clean == "." {
		return "", nil
	}
	return clean, checkPath("subpath", p, false)
}

// viewImages makes the snapshots of the images that a container mounts, and puts
// into its record which images they are.
func (e *Engine) viewImages(ctx context.Context, rec *Record) error {
	views := 0
	for i := range rec.Mounts {
		m := &rec.Mounts[i]
		if m.Type != mount.TypeImage {
			continue
		}
		img, err := e.Images.Get(ctx, m.Name)
		if err != nil {
			// Not found would have the client pull the container's image.
			return invalid("invalid mount config for type \"image\": %v", err)
		}
		detail, err := e.Images.Detail(ctx, img.Target, nil)
		if err != nil {
			return invalid("invalid mount config for type \"image\": %v", err)
		}
		if err := e.Images.Unpacked(ctx, img, detail); err != nil {
			return err
		}
		if err := e.tasks.View(ctx, rec.ID, views, detail.ChainID()); err != nil {
			return err
		}
		m.Source, m.View = img.ID(), views
		views++
	}
	return nil
}

// imageLayers adds to a mount's settings the disks of its image.
func (e *Engine) imageLayers(ctx context.Context, id string, m Mount) (*shimapi.Mount, error) {
	layers, err := e.tasks.ViewLayers(ctx, id, m.View)
	if err != nil {
		return nil, err
	}
	return &shimapi.Mount{Layers: layers, Subpath: m.Subpath}, nil
}
