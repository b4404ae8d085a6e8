// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"byre.dev/byre/internal/engine/image"
	"byre.dev/byre/internal/engine/task"
	"byre.dev/byre/internal/shimapi"
)

// StatPath looks a path of a container up; "docker cp" asks first.
func (e *Engine) StatPath(ctx context.Context, ref, path string) (container.PathStat, error) {
	var stat container.PathStat
	c, err := e.containers.get(ref)
	if err != nil {
		return stat, err
	}
	err = e.withShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		stat, err = statPath(ctx, shim, c.id, path)
		return err
	})
	return stat, err
}

func statPath(ctx context.Context, shim *shimapi.Client, id, path string) (container.PathStat, error) {
	r, err := shim.StatPath(ctx, &shimapi.StatPathRequest{ContainerId: id, Path: path})
	if err != nil {
		return container.PathStat{}, archiveError(err, path, id)
	}
	return container.PathStat{
		Name: r.Name, Size: r.Size, Mode: fs.FileMode(r.Mode), Mtime: time.Unix(0, r.MtimeNs), LinkTarget: r.LinkTarget,
	}, nil
}

func archiveError(err error, path, id string) error {
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("Could not find the file %s in container %s", path, id))
	}
	return err
}

// ReadArchive gives a tar of a path to the writer that open returns when the
// path was found.
func (e *Engine) ReadArchive(ctx context.Context, ref, path string, open func(container.PathStat) io.Writer) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	return e.withShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		stat, err := statPath(ctx, shim, c.id, path)
		if err != nil {
			return err
		}
		e.publish(c, events.ActionArchivePath, nil)
		err = shim.CopyArchive(ctx, &shimapi.ReadArchiveRequest{ContainerId: c.id, Path: path}, open(stat))
		return archiveError(err, path, c.id)
	})
}

// ArchiveTarget says where and how a tar is unpacked.
type ArchiveTarget struct {
	// Path is a directory of the container.
	Path string
	// NoOverwriteDirNonDir refuses to replace a directory by a file or the
	// reverse.
	NoOverwriteDirNonDir bool
	// CopyUIDGID keeps the owners of the archive's entries.
	CopyUIDGID bool
}

// WriteArchive unpacks a tar into a directory of a container.
func (e *Engine) WriteArchive(ctx context.Context, ref string, to ArchiveTarget, r io.Reader) error {
	c, err := e.containers.get(ref)
	if err != nil {
		return err
	}
	target := &shimapi.WriteArchiveTarget{
		ContainerId: c.id, Path: to.Path, NoOverwriteDirNonDir: to.NoOverwriteDirNonDir, CopyUidGid: to.CopyUIDGID,
	}
	plain, err := image.Decompress(r)
	if err != nil {
		return invalid("read archive: %v", err)
	}
	defer func() {
		if err := plain.Close(); err != nil {
			c.log.Debug("archive's decompression ended", "err", err)
		}
	}()
	return e.withShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		if _, err := shim.ExtractArchive(ctx, target, plain); err != nil {
			return archiveError(err, target.Path, c.id)
		}
		e.publish(c, events.ActionExtractToDir, nil)
		return nil
	})
}

// withShim calls a container's shim. A container that does not run gets a
// machine for the call, in which nothing of it is started.
func (e *Engine) withShim(ctx context.Context, c *Container, call func(context.Context, *shimapi.Client) error) error {
	if _, err := c.running(); err == nil {
		return e.callShim(ctx, c, call)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if _, err := c.running(); err == nil {
		return e.callShim(ctx, c, call)
	}
	if r := c.snapshot(); r.State.Removing || r.State.Dead {
		return conflict("container %s is marked for removal", c.id)
	}
	return e.withBorrowed(ctx, c, call)
}

func (e *Engine) callShim(ctx context.Context, c *Container, call func(context.Context, *shimapi.Client) error) error {
	b, err := os.ReadFile(filepath.Join(e.bundle(c.id), shimapi.BootstrapFile))
	if err != nil {
		return fmt.Errorf("find shim: %w", err)
	}
	address, err := shimapi.Address(b)
	if err != nil {
		return err
	}
	shim, err := shimapi.Dial(ctx, address)
	if err != nil {
		return err
	}
	err = call(ctx, shim)
	return errors.Join(err, shim.Close())
}

// withBorrowed makes the task of a stopped container without starting its
// process, for the time of a call. Its network is loopback.
func (e *Engine) withBorrowed(ctx context.Context, c *Container, call func(context.Context, *shimapi.Client) error) (err error) {
	r := c.snapshot()
	// A machine of its own, whatever it ran in.
	host := *r.Host
	host.PidMode, host.IpcMode = "", container.IPCModePrivate
	r.Group, r.Host = "", &host
	leave, err := e.starts.enter(ctx, c.id)
	if err != nil {
		return err
	}
	if err = c.touch(); err == nil {
		err = e.createTask(ctx, r, shimapi.Network{Hostname: r.Config.Hostname}, task.Stdio{})
	}
	leave() // the call may take as long as its client does
	if err != nil {
		return fmt.Errorf("open file system of container %s: %w", short(c.id), err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		e.tasks.Clean(clean, c.id)
	}()
	return e.callShim(ctx, c, call)
}
