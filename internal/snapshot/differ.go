// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Differ applies layers to snapshots of one Snapshotter.
type Differ struct {
	sn      *Snapshotter
	content content.Provider
}

var (
	_ diff.Applier  = (*Differ)(nil)
	_ diff.Comparer = (*Differ)(nil)
)

// NewDiffer returns a differ that reads layers from store.
func NewDiffer(sn *Snapshotter, store content.Provider) *Differ {
	return &Differ{sn: sn, content: store}
}

// Apply makes the layer desc that of the active snapshot with these mounts, and
// returns the descriptor of its uncompressed form. The size in it is zero where
// the layer's image was there before. Mounts of other snapshotters and layers
// that are no tar archives are refused as not implemented, which lets the next
// differ try. Nothing is mounted.
func (d *Differ) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (_ ocispec.Descriptor, err error) {
	defer recovered("apply layer "+desc.Digest.String(), &err)
	if err := d.checkRequest(ctx, desc, opts); err != nil {
		return ocispec.Descriptor{}, err
	}
	if id, ok := d.staged(mounts); ok {
		return applied(id, 0), nil
	}
	dir, err := d.target(mounts)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	want, err := readDigest(filepath.Join(dir, wantName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, err
	}
	info, release, err := d.sn.cache.Put(ctx, want, func() (io.ReadCloser, error) {
		ra, err := d.content.ReaderAt(ctx, desc)
		if err != nil {
			return nil, err
		}
		return &blob{content.NewReader(ra), ra}, nil
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	defer release()
	if err := setLayer(dir, info.DiffID); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	if err := os.Remove(filepath.Join(dir, scratchName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return applied(info.DiffID, info.TarSize), nil
}

// Compare is refused: the difference that a container made is on its scratch
// disk, which is read in the guest.
func (d *Differ) Compare(context.Context, []mount.Mount, []mount.Mount, ...diff.Opt) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, fmt.Errorf("differ %s: compare: a scratch disk can only be read in a guest: %w",
		Name, errdefs.ErrNotImplemented)
}

// checkRequest refuses what is no tar layer and options that would be ignored.
func (d *Differ) checkRequest(ctx context.Context, desc ocispec.Descriptor, opts []diff.ApplyOpt) error {
	if _, err := images.DiffCompression(ctx, desc.MediaType); err != nil {
		return fmt.Errorf("media type %s: %w: %w", desc.MediaType, errdefs.ErrNotImplemented, err)
	}
	if strings.Contains(desc.MediaType, "+encrypted") {
		return fmt.Errorf("media type %s: encrypted layers: %w", desc.MediaType, errdefs.ErrNotImplemented)
	}
	var cfg diff.ApplyConfig
	for _, o := range opts {
		if err := o(ctx, desc, &cfg); err != nil {
			return err
		}
	}
	if len(cfg.ProcessorPayloads) > 0 {
		return fmt.Errorf("payloads for layer processors: %w", errdefs.ErrNotImplemented)
	}
	return nil
}

// staged recognizes an active snapshot that has its layer already.
func (d *Differ) staged(mounts []mount.Mount) (digest.Digest, bool) {
	if len(mounts) == 0 || !mounts[len(mounts)-1].ReadOnly() {
		return "", false
	}
	hex, ok := strings.CutSuffix(filepath.Base(mounts[0].Source), ".ext4")
	id := digest.NewDigestFromEncoded(digest.Canonical, hex)
	return id, ok && id.Validate() == nil && d.sn.cache.Path(id) == mounts[0].Source
}

// target finds the directory of the snapshot that mounts are of.
func (d *Differ) target(mounts []mount.Mount) (string, error) {
	if len(mounts) > 0 {
		dir, name := filepath.Split(mounts[0].Source)
		dir = filepath.Clean(dir)
		if name == scratchName && filepath.Dir(dir) == d.sn.store.root {
			return dir, nil
		}
	}
	return "", fmt.Errorf("mounts are not those of an active snapshot of %s: %w", Name, errdefs.ErrNotImplemented)
}

func applied(diffID digest.Digest, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: size}
}

// blob closes what it reads from.
type blob struct {
	io.Reader
	io.Closer
}
