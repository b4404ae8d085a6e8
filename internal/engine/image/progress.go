// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// progressEvery is how often a pull shows how far it is.
const progressEvery = 100 * time.Millisecond

// tracker shows the layers of a pull as they come and are unpacked. Its goroutine
// ends with stop.
type tracker struct {
	store    *Store
	progress Progress
	done     chan struct{}
	wg       sync.WaitGroup
	// unpacking is what the goroutine alone knows of the unpacking.
	unpacking unpacking

	// mu guards what follows.
	mu   sync.Mutex
	jobs []*job
	// manifest is the image's; its digest is empty before it is known.
	manifest ocispec.Descriptor
}

// job is one layer.
type job struct {
	desc     ocispec.Descriptor
	existed  bool
	fetched  bool
	unpacked bool
	reported int64
	// began is when it was first seen being unpacked.
	began time.Time
}

// newTracker starts to show; ctx is that of the pull.
func newTracker(ctx context.Context, store *Store, progress Progress) *tracker {
	t := &tracker{store: store, progress: progress, done: make(chan struct{})}
	t.wg.Go(func() { repeat(ctx, t.done, t.update) })
	return t
}

// handler sees every descriptor before it is fetched.
func (t *tracker) handler() images.HandlerFunc {
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		switch {
		case images.IsLayerType(desc.MediaType):
			t.add(ctx, desc)
		case images.IsManifestType(desc.MediaType):
			t.mu.Lock()
			t.manifest = desc
			t.mu.Unlock()
		}
		return nil, nil
	}
}

func (t *tracker) add(ctx context.Context, desc ocispec.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.jobs {
		if j.desc.Digest == desc.Digest {
			return
		}
	}
	j := &job{desc: desc}
	if _, err := t.store.content().Info(ctx, desc.Digest); err == nil {
		j.existed, j.fetched = true, true
		t.show(j, "Already exists", nil)
	} else {
		t.show(j, "Pulling fs layer", nil)
	}
	t.jobs = append(t.jobs, j)
}

func (t *tracker) show(j *job, status string, p *jsonstream.Progress) {
	if p == nil {
		p = &jsonstream.Progress{}
	}
	t.progress(jsonstream.Message{ID: layerID(j.desc.Digest), Status: status, Progress: p})
}

func layerID(d digest.Digest) string { return short(d.Encoded()) }

// repeat calls update from time to time until done is closed.
func repeat(ctx context.Context, done <-chan struct{}, update func(context.Context)) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			update(ctx)
		}
	}
}

// update shows what changed since the last time.
func (t *tracker) update(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.jobs {
		if j.fetched {
			continue
		}
		status, err := t.store.content().Status(ctx, remotes.MakeRefKey(ctx, j.desc))
		switch {
		case err == nil && status.Offset != j.reported:
			j.reported = status.Offset
			t.show(j, "Downloading", &jsonstream.Progress{Current: status.Offset, Total: j.desc.Size})
		case err != nil:
			t.finish(ctx, j)
		}
	}
	t.showUnpackingLocked(ctx)
}

// finish notes that a layer without a download under way is there.
func (t *tracker) finish(ctx context.Context, j *job) {
	if _, err := t.store.content().Info(ctx, j.desc.Digest); err == nil {
		j.fetched = true
		t.show(j, "Download complete", nil)
	}
}

// stop ends the showing; complete says that all layers are in place.
func (t *tracker) stop(complete bool) {
	close(t.done)
	t.wg.Wait()
	if !complete {
		return
	}
	for _, j := range t.jobs {
		if !j.fetched {
			t.show(j, "Download complete", nil)
		}
		if !j.existed && !j.unpacked {
			t.show(j, "Pull complete", nil)
		}
	}
}
