// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"byre.dev/byre/internal/guestapi"
)

// volumeData is the directory of a volume's disk image that is mounted. What is
// beside it, the guest alone sees.
const volumeData = "/data"

// attachVolumes plugs the disk images of volumes in, fills those that are empty
// and mounts them. The root file system is mounted. The caller holds setup.
func (c *Container) attachVolumes(ctx context.Context, specs []VolumeSpec) error {
	for _, v := range specs {
		if err := c.attachVolume(ctx, v); err != nil {
			return fmt.Errorf("volume %s for %s: %w", v.Source, v.Dest, err)
		}
	}
	return nil
}

func (c *Container) attachVolume(ctx context.Context, v VolumeSpec) error {
	d, mounts, err := c.attachDisk(ctx, RootDisk{Path: v.Source, FSType: "ext4"})
	if err != nil {
		return err
	}
	guest := c.sandbox.link.guest
	if _, err := guest.Mount(ctx, &guestapi.MountRequest{Mounts: mounts}); err != nil {
		return fmt.Errorf("mount in the guest: %w", err)
	}
	d.mounted = true
	if v.Fill {
		if err := c.fill(ctx, v.Dest, d.point()+volumeData, true); err != nil {
			return err
		}
	}
	bind := &guestapi.Mount{
		Target: volumeDir(c.id, v.Index), Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: d.point() + volumeData}},
	}
	if _, err := guest.Mount(ctx, &guestapi.MountRequest{Mounts: []*guestapi.Mount{bind}}); err != nil {
		return fmt.Errorf("mount in the guest: %w", err)
	}
	c.targets = append(c.targets, bind.Target)
	return nil
}

// fillShares fills the shares that are to be.
func (c *Container) fillShares(ctx context.Context) error {
	for _, sh := range c.shares {
		if !sh.spec.Fill {
			continue
		}
		if err := c.fill(ctx, sh.spec.Dest, shareDir(c.id, sh.spec.Index), false); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) fill(ctx context.Context, dest, target string, replace bool) error {
	_, err := c.sandbox.link.guest.FillVolume(ctx, &guestapi.FillRequest{
		ContainerId: c.id, Path: dest, Target: target, Replace: replace,
	})
	return err
}

// isEmptyDir says whether a path is a directory without entries.
func isEmptyDir(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}
