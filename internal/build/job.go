// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// uploadWait is how long a build and the request that brings its context wait
// for each other.
const uploadWait = 10 * time.Second

// job is a build that its client can cancel and send a context to.
type job struct {
	cancel  func()
	uploads chan io.Reader
	over    chan struct{}
	finish  func()
}

// addJob makes the job of a build; it is known by an ID that is not "".
func (s *Service) addJob(id string, cancel func()) (*job, error) {
	over := make(chan struct{})
	j := &job{cancel: cancel, uploads: make(chan io.Reader), over: over, finish: sync.OnceFunc(func() { close(over) })}
	if id == "" {
		return j, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[id] != nil {
		return nil, errdefs.ErrConflict.WithMessage("a build " + id + " runs already")
	}
	s.jobs[id] = j
	return j, nil
}

func (s *Service) removeJob(id string, j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[id] == j {
		delete(s.jobs, id)
	}
}

func (s *Service) job(id string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[id]
}

// Cancel ends a build by its client's name for it; one that is not known has
// ended.
func (s *Service) Cancel(id string) {
	if j := s.job(id); j != nil {
		j.cancel()
	}
}

// Upload brings a build its context, and returns when the build is over.
func (s *Service) Upload(ctx context.Context, id string, r io.Reader) error {
	wait, stop := context.WithTimeout(ctx, uploadWait)
	defer stop()
	for j := s.job(id); ; j = s.job(id) {
		if j == nil {
			select { // clients send both requests at once
			case <-time.After(10 * time.Millisecond):
				continue
			case <-wait.Done():
				return errdefs.ErrNotFound.WithMessage("no build " + id + " waits for a context")
			}
		}
		select {
		case j.uploads <- r:
			select {
			case <-j.over:
			case <-ctx.Done():
				j.cancel()
				<-j.over
			}
			return nil
		case <-wait.Done():
			return fmt.Errorf("upload of the context of build %s: %w", id, wait.Err())
		}
	}
}

func (j *job) awaitUpload(ctx context.Context) (io.Reader, error) {
	select {
	case r := <-j.uploads:
		return r, nil
	case <-time.After(uploadWait):
		return nil, errdefs.ErrInvalidArgument.WithMessage("the client sent no context for the build")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
