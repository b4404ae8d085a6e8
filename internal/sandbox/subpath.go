// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guestapi"
)

// ImageSpec is an image that is mounted into a container, read-only.
type ImageSpec struct {
	// Index numbers the container's images from 0.
	Index int
	// Layers are ext4 images, top first; Dest is the mount's place in the
	// container.
	Layers []string
	Dest   string
}

// imageDir is where an image is mounted for a container in the guest.
func imageDir(id string, index int) string {
	return fmt.Sprintf("%s/images/%d", guestapi.ContainerDir(id), index)
}

// SubpathSpec is a place below a mount of a container's that is mounted in the
// place of the whole.
type SubpathSpec struct {
	// Index numbers the container's subpaths from 0.
	Index int
	// Base is the whole, in the guest; Path is below it.
	Base, Path string
	// Fill has the place, where it is an empty directory, filled with what the
	// image has at Dest.
	Fill bool
	// Dest is the mount's place in the container.
	Dest string
}

// subpathDir is where a container's subpath is mounted in the guest.
func subpathDir(id string, index int) string {
	return fmt.Sprintf("%s/subpaths/%d", guestapi.ContainerDir(id), index)
}

// image returns the guest's mount for the layers of an image.
func (c *converter) image(name string, m specs.Mount) (specs.Mount, error) {
	var share ShareSpec
	options, err := bindOptions(name, m.Options, &share)
	if err != nil {
		return m, err
	}
	if !share.ReadOnly {
		return m, refuse(name, "images are mounted read-only")
	}
	i := ImageSpec{Index: len(c.out.Images), Layers: c.in.Settings.Mounts[m.Destination].Layers, Dest: m.Destination}
	c.out.Images = append(c.out.Images, i)
	m.Type, m.Options, m.Source = "bind", options, imageDir(c.in.ID, i.Index)
	return c.below(m, false), nil
}

// below has a mount of the guest's show the subpath that was asked for, if any.
func (c *converter) below(m specs.Mount, fill bool) specs.Mount {
	sub := c.in.Settings.Mounts[m.Destination].Subpath
	if sub == "" {
		return m
	}
	s := SubpathSpec{Index: len(c.out.Subpaths), Base: m.Source, Path: sub, Fill: fill, Dest: m.Destination}
	c.out.Subpaths = append(c.out.Subpaths, s)
	m.Source = subpathDir(c.in.ID, s.Index)
	return m
}

// attachImages plugs the layers of images in and mounts their stacks. The caller
// holds setup.
func (c *Container) attachImages(ctx context.Context, images []ImageSpec) error {
	for _, i := range images {
		if err := c.attachImage(ctx, i); err != nil {
			return fmt.Errorf("image for %s: %w", i.Dest, err)
		}
	}
	return nil
}

func (c *Container) attachImage(ctx context.Context, i ImageSpec) error {
	var points []string
	for _, layer := range i.Layers {
		d, mounts, err := c.attachDisk(ctx, RootDisk{Path: layer, FSType: "ext4", ReadOnly: true})
		if err != nil {
			return err
		}
		if len(mounts) > 0 {
			if err := c.mount(ctx, mounts); err != nil {
				return err
			}
		}
		points = append(points, d.point())
	}
	stack := &guestapi.Mount{Target: imageDir(c.id, i.Index), ReadOnly: true}
	if len(points) == 1 {
		stack.Source = &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: points[0]}}
	} else {
		stack.Source = &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{Lower: slices.Clone(points)}}
	}
	return c.mount(ctx, []*guestapi.Mount{stack})
}

// bindSubpaths mounts what lies below shares, volumes and images, which are
// mounted. The caller holds setup.
func (c *Container) bindSubpaths(ctx context.Context, subpaths []SubpathSpec) error {
	for _, s := range subpaths {
		bind := &guestapi.Mount{
			Target: subpathDir(c.id, s.Index),
			Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: s.Base, Subpath: s.Path}},
		}
		if err := c.mount(ctx, []*guestapi.Mount{bind}); err != nil {
			return fmt.Errorf("subpath %s for %s: %w", s.Path, s.Dest, err)
		}
		if !s.Fill {
			continue
		}
		if err := c.fill(ctx, s.Dest, bind.Target, false); err != nil {
			return err
		}
	}
	return nil
}
