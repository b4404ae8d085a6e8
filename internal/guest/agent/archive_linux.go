// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/archive"
	"byre.dev/byre/internal/guestapi"
)

// StatPath describes a path in a container.
func (s *session) StatPath(_ context.Context, r *guestapi.StatPathRequest) (*guestapi.StatPathResponse, error) {
	root, err := s.containerRoot(r.ContainerId)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(r.Path)
	if err != nil {
		return nil, pathError(r.ContainerId, r.Path, err)
	}
	return &guestapi.StatPathResponse{
		Name: info.Name, Size: info.Size, Mode: uint32(info.Mode),
		MtimeNs: info.ModTime.UnixNano(), LinkTarget: info.LinkTarget,
	}, nil
}

// containerRoot opens a container's root as its processes see it, with what is
// mounted in it; of one that does not run, the root file system alone.
func (s *session) containerRoot(id string) (*archive.Root, error) {
	dir, err := s.tasks.RootDir(id)
	if err != nil {
		return nil, err
	}
	root, err := archive.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	return root, nil
}

func pathError(id, path string, err error) error {
	var kind error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = errdefs.ErrNotFound
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		kind = errdefs.ErrInvalidArgument
	default:
		return fmt.Errorf("path %q of container %s: %w", path, id, err)
	}
	return fmt.Errorf("path %q of container %s: %w: %w", path, id, err, kind)
}

// ReadArchive packs a path into the stream named.
func (s *session) ReadArchive(ctx context.Context, r *guestapi.ArchiveRequest) (*guestapi.ArchiveResponse, error) {
	return s.archive(ctx, r, func(root *archive.Root, c io.ReadWriter) error { return root.Read(c, r.Path) })
}

// WriteArchive unpacks the stream named into a path.
func (s *session) WriteArchive(ctx context.Context, r *guestapi.ArchiveRequest) (*guestapi.ArchiveResponse, error) {
	opts := archive.WriteOptions{NoOverwriteDirNonDir: r.NoOverwriteDirNonDir, CopyUIDGID: r.CopyUidGid}
	return s.archive(ctx, r, func(root *archive.Root, c io.ReadWriter) error {
		if err := root.Write(c, r.Path, opts); err != nil {
			return err
		}
		// What follows the archive's end is padding.
		_, err := io.Copy(io.Discard, c)
		return err
	})
}

func (s *session) archive(ctx context.Context, r *guestapi.ArchiveRequest, do func(*archive.Root, io.ReadWriter) error) (*guestapi.ArchiveResponse, error) {
	root, err := s.containerRoot(r.ContainerId)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return s.onStream(ctx, r.Stream, func(c io.ReadWriter) error {
		if err := do(root, c); err != nil {
			return pathError(r.ContainerId, r.Path, err)
		}
		return nil
	})
}

// onStream runs do on the stream named and counts its bytes.
func (s *session) onStream(ctx context.Context, stream string, do func(io.ReadWriter) error) (*guestapi.ArchiveResponse, error) {
	conn, err := s.hub.Take(ctx, stream)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := &counted{Conn: conn}
	if err := do(c); err != nil {
		return nil, err
	}
	return &guestapi.ArchiveResponse{Bytes: c.n}, nil
}

// counted counts the bytes of a stream, both ways.
type counted struct {
	net.Conn
	n uint64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n += uint64(n)
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n += uint64(n)
	return n, err
}
