// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"slices"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unpacking knows which snapshot each layer of an image becomes.
type unpacking struct {
	// layers are the image's, and chains the names of their snapshots; both are
	// empty before manifest and configuration have come.
	layers, chains []digest.Digest
}

// read finds the layers' snapshots, if what names them has come.
func (u *unpacking) read(ctx context.Context, s *Store, manifest ocispec.Descriptor) {
	var m ocispec.Manifest
	if len(u.layers) > 0 || manifest.Digest == "" || s.readJSON(ctx, manifest, &m) != nil {
		return
	}
	var config ocispec.Image
	if s.readJSON(ctx, m.Config, &config) != nil || len(config.RootFS.DiffIDs) != len(m.Layers) {
		return
	}
	u.chains = identity.ChainIDs(slices.Clone(config.RootFS.DiffIDs))
	for _, l := range m.Layers {
		u.layers = append(u.layers, l.Digest)
	}
}

// showUnpackingLocked shows which layers are unpacked, and for how long the next
// one, which has come, has been at it: one is unpacked after the other. The caller
// holds mu.
func (t *tracker) showUnpackingLocked(ctx context.Context) {
	t.unpacking.read(ctx, t.store, t.manifest)
	for i, d := range t.unpacking.layers {
		at := slices.IndexFunc(t.jobs, func(j *job) bool { return j.desc.Digest == d })
		if at < 0 || !t.jobs[at].fetched {
			return
		}
		j := t.jobs[at]
		if j.unpacked {
			continue
		}
		if _, err := t.store.snapshots().Stat(ctx, t.unpacking.chains[i].String()); err != nil {
			t.showExtracting(j)
			return
		}
		j.unpacked = true
		if !j.existed {
			t.show(j, "Pull complete", nil)
		}
	}
}

// showExtracting shows the seconds that a layer has been unpacked for, from 1: 0
// would be no progress.
func (t *tracker) showExtracting(j *job) {
	if j.began.IsZero() {
		j.began = time.Now()
	}
	t.show(j, "Extracting", &jsonstream.Progress{Current: 1 + int64(time.Since(j.began).Seconds()), Units: "s"})
}
