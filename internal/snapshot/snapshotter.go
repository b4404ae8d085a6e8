// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/layer"
)

// Name is what the snapshotter and the differ are called in containerd.
const Name = "byre"

// Config says where a snapshotter keeps its files and how large scratch disks are.
type Config struct {
	// Root is the directory of everything; it is made if it is not there.
	Root string
	// Template is the ext4 image that scratch disks are copies of. It need not
	// exist before a container is created.
	Template string
	// ScratchSize is how many bytes a scratch disk has for files; zero means
	// what the template has.
	ScratchSize int64
}

// Snapshotter implements [snapshots.Snapshotter] and [snapshots.Cleaner].
type Snapshotter struct {
	cfg   Config
	store store
	cache *layer.Cache
	ms    *storage.MetaStore
}

var (
	_ snapshots.Snapshotter = (*Snapshotter)(nil)
	_ snapshots.Cleaner     = (*Snapshotter)(nil)
)

// New opens the snapshotter in cfg.Root and removes what an earlier one left
// unfinished. One process may have it open. The caller closes it.
func New(ctx context.Context, cfg Config) (_ *Snapshotter, err error) {
	defer recovered("open snapshotter", &err)
	s := &Snapshotter{cfg: cfg, store: store{filepath.Join(cfg.Root, "snapshots")}}
	if err := os.MkdirAll(s.store.root, 0o700); err != nil {
		return nil, err
	}
	if s.cache, err = layer.Open(filepath.Join(cfg.Root, "layers")); err != nil {
		return nil, err
	}
	if s.ms, err = storage.NewMetaStore(filepath.Join(cfg.Root, "metadata.db")); err != nil {
		return nil, err
	}
	if err := errors.Join(s.store.removeUnfinished(), s.Cleanup(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("clean up snapshots: %w", err), s.ms.Close())
	}
	return s, nil
}

// Close releases the metadata. Files and snapshots stay.
func (s *Snapshotter) Close() error { return s.ms.Close() }

// Prepare makes an active snapshot on parent: with a scratch disk, or, where the
// labels say that a layer is to be extracted into it, without one. The label
// [snapshots.LabelSnapshotMaxSize] sets the size of the scratch disk.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) (_ []mount.Mount, err error) {
	defer recovered("prepare snapshot "+key, &err)
	return s.create(ctx, snapshots.KindActive, key, parent, opts)
}

// View makes a read-only snapshot of parent.
func (s *Snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) (_ []mount.Mount, err error) {
	defer recovered("view snapshot "+key, &err)
	return s.create(ctx, snapshots.KindView, key, parent, opts)
}

func (s *Snapshotter) create(ctx context.Context, kind snapshots.Kind, key, parent string, opts []snapshots.Opt) ([]mount.Mount, error) {
	var info snapshots.Info
	for _, o := range opts {
		if err := o(&info); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(s.store.root, newPrefix)
	if err != nil {
		return nil, fmt.Errorf("make snapshot %s: %w", key, err)
	}
	defer os.RemoveAll(dir) // after success it is no longer there

	release, err := s.fill(ctx, dir, kind, parent, info.Labels)
	defer release()
	if err != nil {
		return nil, fmt.Errorf("make snapshot %s: %w", key, err)
	}
	err = s.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		snap, err := storage.CreateSnapshot(ctx, kind, key, parent, opts...)
		if err != nil {
			return fmt.Errorf("make snapshot %s: %w", key, err)
		}
		return os.Rename(dir, s.store.dir(snap.ID))
	})
	if err != nil {
		return nil, err
	}
	return s.Mounts(ctx, key)
}

// fill puts into a new snapshot's directory what it needs. Release unpins the
// layer that it names; it is to be called in any case, once the snapshot is known.
func (s *Snapshotter) fill(ctx context.Context, dir string, kind snapshots.Kind, parent string, labels map[string]string) (release func(), err error) {
	release = func() {}
	want := digest.Digest(labels[snapshots.LabelSnapshotDiffID])
	extraction := kind == snapshots.KindActive && want != "" && labels[snapshots.LabelSnapshotRef] != ""
	switch {
	case extraction:
		if release, ok := s.cache.Get(want); ok {
			return release, setLayer(dir, want)
		}
		return release, writeDigest(dir, wantName, want)
	case kind == snapshots.KindView && parent == "":
		info, unpin, err := s.cache.Put(ctx, digest.FromBytes(make([]byte, 1024)), emptyTar)
		if err != nil {
			return release, err
		}
		return unpin, setLayer(dir, info.DiffID)
	case kind == snapshots.KindView:
		return release, nil
	}
	return release, s.makeScratch(filepath.Join(dir, scratchName), labels)
}

// Mounts returns the mounts of an active snapshot or a view.
func (s *Snapshotter) Mounts(ctx context.Context, key string) (_ []mount.Mount, err error) {
	defer recovered("mounts of snapshot "+key, &err)
	var snap storage.Snapshot
	err = s.ms.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		snap, err = storage.GetSnapshot(ctx, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("mounts of snapshot %s: %w", key, err)
	}
	st, err := s.stack(snap)
	if err != nil {
		return nil, fmt.Errorf("mounts of snapshot %s: %w", key, err)
	}
	return st.mounts(), nil
}

func (s *Snapshotter) stack(snap storage.Snapshot) (stack, error) {
	var st stack
	own, err := s.store.layer(snap.ID)
	switch {
	case err == nil:
		st.layers = append(st.layers, s.cache.Path(own))
		st.staged = snap.Kind == snapshots.KindActive
	case !errors.Is(err, fs.ErrNotExist):
		return stack{}, err
	case snap.Kind == snapshots.KindActive:
		st.scratch = s.store.scratch(snap.ID)
	}
	for _, id := range snap.ParentIDs {
		diffID, err := s.store.layer(id)
		if err != nil {
			return stack{}, fmt.Errorf("find layer of parent: %w", err)
		}
		st.layers = append(st.layers, s.cache.Path(diffID))
	}
	return st, nil
}

// Commit makes a committed snapshot of an active one into which the differ has
// applied a layer, or whose layer was in the cache. The contents of a scratch
// disk cannot be committed here: reading them takes the guest.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) (err error) {
	defer recovered("commit snapshot "+key, &err)
	var id string
	err = s.ms.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		id, _, _, err = storage.GetInfo(ctx, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	diffID, err := s.store.layer(id)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("commit snapshot %s: no layer was applied to it, and its scratch disk can only be read in a guest: %w",
			key, errdefs.ErrNotImplemented)
	}
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	size, err := disk.Allocated(s.cache.Path(diffID))
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	err = s.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		_, err := storage.CommitActive(ctx, key, name, snapshots.Usage{Size: size, Inodes: 1}, opts...)
		return err
	})
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", key, err)
	}
	return nil
}

// Remove drops a snapshot. Its directory goes with it; the image of its layer goes
// at the next Cleanup, if no other snapshot names it.
func (s *Snapshotter) Remove(ctx context.Context, key string) (err error) {
	defer recovered("remove snapshot "+key, &err)
	var id string
	err = s.ms.WithTransaction(ctx, true, func(ctx context.Context) (err error) {
		id, _, err = storage.Remove(ctx, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	// The snapshot is gone whatever happens; Cleanup tries again.
	if err := os.RemoveAll(s.store.dir(id)); err != nil {
		log.G(ctx).WithError(err).WithField("snapshot", key).Warn("snapshot directory stays")
	}
	return nil
}

// Stat returns a snapshot's description.
func (s *Snapshotter) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	defer recovered("stat snapshot "+key, &err)
	err = s.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

// Update changes a snapshot's labels.
func (s *Snapshotter) Update(ctx context.Context, info snapshots.Info, fieldpaths ...string) (_ snapshots.Info, err error) {
	defer recovered("update snapshot "+info.Name, &err)
	err = s.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		info, err = storage.UpdateInfo(ctx, info, fieldpaths...)
		return err
	})
	return info, err
}

// Walk calls fn for every snapshot that a filter selects.
func (s *Snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) (err error) {
	defer recovered("walk snapshots", &err)
	return s.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, fn, filters...)
	})
}

// Usage returns what storage a snapshot takes: of a committed one the image of its
// layer, counted in every snapshot that shares it, of an active one what has been
// written to its scratch disk.
func (s *Snapshotter) Usage(ctx context.Context, key string) (usage snapshots.Usage, err error) {
	defer recovered("usage of snapshot "+key, &err)
	var id string
	var info snapshots.Info
	err = s.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		id, info, usage, err = storage.GetInfo(ctx, key)
		return err
	})
	if err != nil || info.Kind != snapshots.KindActive {
		return usage, err
	}
	size, err := disk.Allocated(s.store.scratch(id))
	if errors.Is(err, fs.ErrNotExist) {
		return snapshots.Usage{}, nil
	}
	return snapshots.Usage{Size: size, Inodes: 1}, err
}

// Cleanup removes the directories of dropped snapshots and the images of layers
// that no snapshot names.
func (s *Snapshotter) Cleanup(ctx context.Context) (err error) {
	defer recovered("clean up snapshots", &err)
	var dirs []string
	// In a writing transaction no directory gets its id meanwhile.
	err = s.ms.WithTransaction(ctx, true, func(ctx context.Context) error {
		known, err := storage.IDMap(ctx)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		dirs, err = s.store.orphans(known)
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := os.RemoveAll(d); err != nil {
			log.G(ctx).WithError(err).WithField("path", d).Warn("snapshot directory stays")
		}
	}
	if _, err := s.cache.Retain(s.store.layers); err != nil {
		log.G(ctx).WithError(err).Warn("layer images stay")
	}
	return nil
}
