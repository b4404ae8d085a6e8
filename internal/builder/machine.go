// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/go-digest"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/logs"
)

const (
	// imageName is the name of the image in the archive.
	imageName = "byre.internal/builder:latest"
	// containerName is the one container's.
	containerName = "buildkitd"
	// cacheVolume is the disk of BuildKit's cache.
	cacheVolume = "cache"
	// keyLabel has what the container was made from.
	keyLabel = "dev.byre.builder"
	// stopTimeout is what BuildKit gets to end, in seconds. The cache's disk takes
	// a kill; of the databases on it see damaged.
	stopTimeout = 3
	// alone is how much longer than an idle builder one stays that no daemon
	// is linked to.
	alone = 5 * time.Minute
)

// start makes what is missing of the builder, runs it and links to it.
func (b *Builder) start(ctx context.Context) (*link, error) {
	began := time.Now()
	eng, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx = eng.Context(ctx)
	l, err := b.run(ctx, eng)
	if err != nil && damaged(err) {
		b.log.Warn("the builder's cache is damaged, as by a kill: it is made anew", "err", err)
		if err := b.empty(ctx, eng); err != nil {
			return nil, fmt.Errorf("remove the builder's cache, which is damaged: %w", err)
		}
		l, err = b.run(ctx, eng)
	}
	if err != nil {
		return nil, err
	}
	b.log.Info("builder started", "took", time.Since(began))
	return l, nil
}

// run runs the builder, which it makes if it is missing, and links to it.
func (b *Builder) run(ctx context.Context, eng *engine.Engine) (*link, error) {
	if err := b.prepare(ctx, eng); err != nil {
		return nil, err
	}
	if err := eng.Start(ctx, containerName); err != nil && !errdefs.IsNotModified(err) {
		return nil, err
	}
	l, err := connect(ctx, eng, handler(b.cfg.Images), b.log)
	if err != nil {
		return nil, b.explain(ctx, eng, err)
	}
	return l, nil
}

// damaged says whether BuildKit ended in its database's code: it writes some of
// its databases without waiting for the disk, and bbolt, which looks at one in a
// goroutine of its own, ends the program for one that a kill has left in pieces.
func damaged(err error) bool { return strings.Contains(err.Error(), "go.etcd.io/bbolt") }

// empty removes the builder's container and its cache.
func (b *Builder) empty(ctx context.Context, eng *engine.Engine) error {
	if err := eng.Remove(ctx, containerName, engine.RemoveOptions{Force: true}); err != nil {
		return err
	}
	return eng.RemoveVolume(cacheVolume, true)
}

// stop stops the builder if it runs.
func stop(ctx context.Context, eng *engine.Engine) error {
	err := eng.Stop(eng.Context(ctx), containerName, engine.StopOptions{})
	if errdefs.IsNotModified(err) || errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// prepare sees that there is a container made from the archive that is there
// now.
func (b *Builder) prepare(ctx context.Context, eng *engine.Engine) error {
	archive, err := digestOf(b.cfg.Archive)
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
			"the builder's image %s is missing: make it with \"make builder\"", b.cfg.Archive))
	}
	if err != nil {
		return err
	}
	env := environment(b.cfg.Environ)
	key := archive + " " + b.cfg.Idle.String() + " " + strings.Join(env, " ")
	old, err := eng.Inspect(ctx, containerName, false)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return err
	case old.Config.Labels[keyLabel] == key:
		return nil
	default:
		if err := eng.Remove(ctx, containerName, engine.RemoveOptions{Force: true}); err != nil {
			return err
		}
	}
	if err := b.load(ctx, eng); err != nil {
		return err
	}
	if _, err := eng.CreateVolume(cacheVolume, nil, map[string]string{"type": "ext4"}); err != nil {
		return fmt.Errorf("make the cache's disk: %w", err)
	}
	_, err = eng.Create(ctx, request(key, env, b.cfg.Idle))
	return err
}

// load takes the image from the archive. What an earlier one left goes.
func (b *Builder) load(ctx context.Context, eng *engine.Engine) error {
	f, err := os.Open(b.cfg.Archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := eng.Images.Load(ctx, f, nil, func(jsonstream.Message) {}); err != nil {
		return fmt.Errorf("load the builder's image: %w", err)
	}
	if _, err := eng.Images.Prune(ctx, nil); err != nil {
		return fmt.Errorf("remove the builder's earlier image: %w", err)
	}
	return nil
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d, err := digest.FromReader(f)
	if err != nil {
		return "", err
	}
	return d.Encoded(), nil
}

// request describes the container: privileged, because BuildKit makes
// containers, and alone in its machine.
func request(key string, env []string, idle time.Duration) engine.CreateRequest {
	yes, timeout := true, stopTimeout
	return engine.CreateRequest{Name: containerName, CreateRequest: container.CreateRequest{
		Config: &container.Config{
			Image: imageName, Hostname: containerName, Env: env, StopTimeout: &timeout,
			Cmd:    []string{"-socket", socket, "-root", cacheDir, "-alone", (idle + alone).String()},
			Labels: map[string]string{keyLabel: key},
		},
		HostConfig: &container.HostConfig{
			Privileged: true, Init: &yes,
			LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}},
			Mounts: []mount.Mount{{
				Type: mount.TypeVolume, Source: cacheVolume, Target: cacheDir,
				VolumeOptions: &mount.VolumeOptions{NoCopy: true},
			}},
		},
	}}
}

// explain adds the end of the builder's log to an error of its start.
func (b *Builder) explain(ctx context.Context, eng *engine.Engine, cause error) error {
	log, err := eng.Logs(containerName, engine.LogQuery{Query: logs.Query{Tail: 5}, Stdout: true, Stderr: true})
	if err != nil {
		return cause
	}
	var lines []string
	err = log.Read(ctx, func(e logs.Entry) error {
		lines = append(lines, strings.TrimSpace(string(e.Line)))
		return nil
	})
	if err != nil || len(lines) == 0 {
		return cause
	}
	return fmt.Errorf("%w; its log ends: %s", cause, strings.Join(lines, " | "))
}
