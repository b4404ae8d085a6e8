// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// uploads shows the layers of a push as they go. Its goroutine ends with stop.
type uploads struct {
	progress Progress
	tracker  docker.StatusTracker
	done     chan struct{}
	wg       sync.WaitGroup

	// mu guards jobs.
	mu   sync.Mutex
	jobs []*upload
}

// upload is one layer.
type upload struct {
	desc ocispec.Descriptor
	// ended says that the last of it was shown; reported is what was.
	ended    bool
	reported int64
}

// newUploads starts to show; ctx is that of the push.
func newUploads(ctx context.Context, progress Progress) *uploads {
	u := &uploads{progress: progress, tracker: docker.NewInMemoryTracker(), done: make(chan struct{})}
	u.wg.Go(func() { repeat(ctx, u.done, u.update) })
	return u
}

// add sees every descriptor before it is uploaded.
func (u *uploads) add(_ context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if images.IsLayerType(desc.MediaType) && !slices.ContainsFunc(u.jobs, func(j *upload) bool { return j.desc.Digest == desc.Digest }) {
		j := &upload{desc: desc}
		u.jobs = append(u.jobs, j)
		u.show(j, "Preparing", nil)
	}
	return nil, nil
}

func (u *uploads) show(j *upload, status string, p *jsonstream.Progress) {
	if p == nil {
		p = &jsonstream.Progress{}
	}
	u.progress(jsonstream.Message{ID: layerID(j.desc.Digest), Status: status, Progress: p})
}

// update shows what changed since the last time.
func (u *uploads) update(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, j := range u.jobs {
		status, err := u.tracker.GetStatus(remotes.MakeRefKey(ctx, j.desc))
		switch {
		case j.ended || err != nil:
		case status.Committed && status.Offset >= status.Total:
			j.ended = true
			u.show(j, ending(status), nil)
		case status.Offset != j.reported:
			j.reported = status.Offset
			u.show(j, "Pushing", &jsonstream.Progress{Current: status.Offset, Total: j.desc.Size})
		}
	}
}

// ending says how a layer came to be in the registry.
func ending(status docker.Status) string {
	switch {
	case status.MountedFrom != "":
		from := status.MountedFrom
		if named, err := reference.ParseNormalizedNamed(from); err == nil {
			from = reference.Path(named)
		}
		return "Mounted from " + from
	case status.Exists:
		return "Layer already exists"
	}
	return "Pushed"
}

// stop shows what ended last and ends the showing.
func (u *uploads) stop() {
	close(u.done)
	u.wg.Wait()
	u.update(context.Background())
}
