// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

const (
	// gather is how long events of the host are collected before the guest is
	// told: a file is made, written and closed in less.
	gather = 15 * time.Millisecond
	// replayWait bounds one call to the guest.
	replayWait = 30 * time.Second
	// retryWait is the pause after a call that failed.
	retryWait = 500 * time.Millisecond
	// pollEvery is how often directories are compared that the host does not
	// tell of for want of watches.
	pollEvery = 2 * time.Second
	// stepsAtOnce bounds the changes of one call.
	stepsAtOnce = 256
)

// replayer has a guest follow the host's changes to one share.
type replayer struct {
	tree   *replay.Tree
	watch  *hostWatch
	log    *slog.Logger
	cancel context.CancelFunc
	work   sync.WaitGroup
	// told is closed when the telling has ended; nil before its start.
	told chan struct{}
	// send repeats steps in the guest.
	send func(ctx context.Context, steps []*replay.Step) ([]linux.Errno, error)
}

// newReplayer watches dir, which cfg.Root is the tree of, or one file of it,
// with watches out of the budget. The caller starts it once the guest has
// mounted the share, and closes it.
func newReplayer(dir string, budget *watchBudget, cfg replay.Config, log *slog.Logger) (*replayer, error) {
	w, err := watch.Open(dir)
	if err != nil {
		return nil, err
	}
	r := &replayer{watch: &hostWatch{Watcher: w, single: cfg.Single, budget: budget}, log: log}
	cfg.Watcher = r.watch
	r.tree = replay.New(cfg)
	return r, nil
}

// start begins to tell the guest. It ends with close.
func (r *replayer) start(send func(context.Context, []*replay.Step) ([]linux.Errno, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	r.send, r.cancel = send, cancel
	r.work.Go(r.listen)
	r.told = make(chan struct{})
	r.work.Go(func() {
		defer close(r.told)
		r.tell(ctx)
	})
}

// quietWait is how long a call under way is waited for before its share is
// unmounted.
const quietWait = 2 * time.Second

// quiet ends the telling and waits until the guest works on none of it: what it
// has open of the share would keep the share from being unmounted.
func (r *replayer) quiet(ctx context.Context) {
	if r == nil || r.told == nil {
		return
	}
	r.stop()
	t := time.NewTimer(quietWait)
	defer t.Stop()
	select {
	case <-r.told:
	case <-t.C:
	case <-ctx.Done():
	}
}

// close ends the work and gives up the tree's references. No server of the
// tree may be at work any more.
func (r *replayer) close() error {
	r.stop()
	err := r.watch.Close()
	r.work.Wait()
	r.tree.Close()
	return err
}

// stop ends the telling; it does not wait for it.
func (r *replayer) stop() {
	if r.cancel != nil {
		r.cancel()
	}
}

// listen feeds the host's events to the tree.
func (r *replayer) listen() {
	for {
		events, err := r.watch.Next()
		if err != nil {
			if !errors.Is(err, watch.ErrClosed) {
				r.log.Error("share no longer follows the host", "err", err)
			}
			return
		}
		r.tree.Note(events)
	}
}

// tell has the guest follow what the tree plans.
func (r *replayer) tell(ctx context.Context) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			if s := r.tree.Stats(); s.Unwatched > 0 {
				if !warned {
					r.log.Warn("no more watches of the host for this machine, directories are compared instead", "unwatched", s.Unwatched)
					warned = true
				}
				r.tree.Poll()
			}
			continue
		case <-r.tree.Wake():
		}
		if !pause(ctx, gather) {
			return
		}
		for r.round(ctx) {
		}
	}
}

// round tells the guest of one batch; it returns false when there is none.
func (r *replayer) round(ctx context.Context) bool {
	steps := r.tree.Plan(stepsAtOnce)
	if len(steps) == 0 {
		return false
	}
	// Given up, the call would go on in the guest and nobody would wait for it.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayWait)
	results, err := r.send(call, steps)
	cancel()
	r.tree.Finish(steps, results)
	for i, e := range results {
		if e != 0 {
			r.log.Debug("guest did not follow", "op", steps[i].Kind, "path", steps[i].Dir+"/"+steps[i].Name, "err", e)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("guest was not told of changes", "err", err)
		}
		return pause(ctx, retryWait)
	}
	return true
}

// pause waits; it returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// changeKinds are the wire's names of the kinds of steps.
var changeKinds = [...]guestapi.Change_Kind{
	replay.Create: guestapi.Change_CREATE, replay.Remove: guestapi.Change_REMOVE,
	replay.Rename: guestapi.Change_RENAME, replay.Modify: guestapi.Change_MODIFY, replay.Attrib: guestapi.Change_ATTRIB,
}

// replaySteps has the guest repeat steps on the mount at target.
func (s *Sandbox) replaySteps(ctx context.Context, target string, steps []*replay.Step) ([]linux.Errno, error) {
	req := &guestapi.ReplayRequest{Target: target}
	for _, st := range steps {
		req.Changes = append(req.Changes, &guestapi.Change{
			Kind: changeKinds[st.Kind], Dir: []byte(st.Dir), Name: []byte(st.Name), IsDir: st.IsDir,
			ToDir: []byte(st.ToDir), ToName: []byte(st.ToName),
			Size: st.Size, Known: st.Known,
		})
	}
	resp, err := s.link.guest.Replay(ctx, req)
	if err != nil {
		return nil, err
	}
	errnos := resp.GetErrnos()
	errnos = errnos[:min(len(errnos), len(steps))]
	out := make([]linux.Errno, len(errnos))
	for i, e := range errnos {
		out[i] = linux.Errno(e)
	}
	return out, nil
}

// watchedDir is the host directory whose changes concern a share.
func watchedDir(spec ShareSpec) (string, error) {
	path, err := filepath.EvalSymlinks(spec.Source)
	if err != nil {
		return "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	if spec.File {
		path = filepath.Dir(path)
	}
	return path, nil
}
