// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"byre.dev/byre/internal/guestapi"
)

// OpenStream opens a named stream to the guest: one end of a process's standard
// streams or of an archive. The call that names the stream to the guest may
// come before or after. ctx bounds the opening.
func (s *Sandbox) OpenStream(ctx context.Context, name string) (net.Conn, error) {
	conn, err := s.dialGuest(ctx, guestapi.Preface{Port: guestapi.PortStdio, Name: name})
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, s.Explain(err))
	}
	return conn, nil
}

// dialGuest opens a stream to a port of the guest. ctx bounds the opening.
func (s *Sandbox) dialGuest(ctx context.Context, p guestapi.Preface) (net.Conn, error) {
	conn, err := s.machine.Dial(ctx, p.Port)
	if err != nil {
		return nil, err
	}
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = p.Open(conn, s.link.secret)
	if !unblock() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// StatPath looks a path of a container up.
func (s *Sandbox) StatPath(ctx context.Context, container, path string) (*guestapi.StatPathResponse, error) {
	r, err := s.link.guest.StatPath(ctx, &guestapi.StatPathRequest{ContainerId: container, Path: path})
	if err != nil {
		return nil, s.Explain(err)
	}
	return r, nil
}

// archives numbers the archive streams of this process.
type archives struct{ n atomic.Uint64 }

func (a *archives) name() string { return "archive-" + strconv.FormatUint(a.n.Add(1), 10) }

// ReadArchive writes a tar of a container's path to w.
func (s *Sandbox) ReadArchive(ctx context.Context, container, path string, w io.Writer) error {
	name := s.archives.name()
	return s.archive(ctx, name, func(ctx context.Context) error {
		_, err := s.link.guest.ReadArchive(ctx, &guestapi.ArchiveRequest{ContainerId: container, Path: path, Stream: name})
		return err
	}, copyTo(w))
}

func copyTo(w io.Writer) func(net.Conn) error {
	return func(conn net.Conn) error {
		_, err := io.Copy(w, conn)
		return err
	}
}

// ReadRoot writes a tar of a container's root file system to w, or of what was
// changed in it.
func (s *Sandbox) ReadRoot(ctx context.Context, container string, changed bool, w io.Writer) error {
	name := s.archives.name()
	return s.archive(ctx, name, func(ctx context.Context) error {
		_, err := s.link.guest.ReadRoot(ctx, &guestapi.RootRequest{ContainerId: container, Changed: changed, Stream: name})
		return err
	}, copyTo(w))
}

// Bounds of what a guest may answer.
const (
	maxPathChanges = 1 << 20
	maxPath        = 4096
	maxProcesses   = 64 << 20 // bytes of what it says of them
)

// Changes calls yield with the paths that a container has changed, some at a
// time.
func (s *Sandbox) Changes(ctx context.Context, container string, yield func([]*guestapi.PathChange) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.link.guest.Changes(ctx, &guestapi.ChangesRequest{ContainerId: container})
	if err != nil {
		return s.Explain(err)
	}
	total := 0
	return receive(s, stream.Recv, func(r *guestapi.ChangesResponse) error {
		total += len(r.GetChanges())
		if total > maxPathChanges || len(r.GetChanges()) > guestapi.MaxChanges {
			return fmt.Errorf("container %s has changed more than %d paths: export it instead", container, maxPathChanges)
		}
		for _, c := range r.GetChanges() {
			if len(c.GetPath()) > maxPath {
				return fmt.Errorf("the guest tells of a path of %d bytes", len(c.GetPath()))
			}
		}
		return yield(r.GetChanges())
	})
}

// receive calls use with what a stream of the guest's brings, up to its end or
// the first error of use, which is its own.
func receive[R any](s *Sandbox, next func() (R, error), use func(R) error) error {
	for {
		r, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.Explain(err)
		}
		if err := use(r); err != nil {
			return err
		}
	}
}

// WriteArchive unpacks a tar into a directory of a container and returns how
// many bytes of it the guest read.
func (s *Sandbox) WriteArchive(ctx context.Context, req *guestapi.ArchiveRequest, r io.Reader) (n uint64, err error) {
	req.Stream = s.archives.name()
	err = s.archive(ctx, req.Stream, func(ctx context.Context) error {
		resp, err := s.link.guest.WriteArchive(ctx, req)
		n = resp.GetBytes()
		return err
	}, func(conn net.Conn) error {
		if _, err := io.Copy(conn, r); err != nil {
			return err
		}
		return closeWrite(conn)
	})
	return n, err
}

// archive runs the call in the guest beside the copying. The guest's own error
// comes first: a copy that breaks off is its consequence.
func (s *Sandbox) archive(ctx context.Context, name string, call func(context.Context) error, copyAll func(net.Conn) error) error {
	conn, err := s.OpenStream(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	called := make(chan error, 1)
	go func() { // received below
		err := call(ctx)
		if err != nil {
			_ = conn.Close() // the copy would wait for a guest that has given up
		}
		called <- err
	}()
	copyErr := copyAll(conn)
	if copyErr != nil {
		_ = conn.Close() // the guest would wait for a copy that has given up
	}
	callErr := <-called
	_ = conn.Close()
	if callErr != nil {
		return s.Explain(callErr)
	}
	return copyErr
}

// closeWrite ends the sending direction of a stream.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return conn.Close()
}

// Processes calls yield with what the guest's kernel says of each process of a
// container.
func (s *Sandbox) Processes(ctx context.Context, container string, yield func(*guestapi.ProcessesResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.link.guest.Processes(ctx, &guestapi.ProcessesRequest{ContainerId: container})
	if err != nil {
		return s.Explain(err)
	}
	total := 0
	return receive(s, stream.Recv, func(r *guestapi.ProcessesResponse) error {
		total += len(r.GetStat()) + len(r.GetStatus()) + len(r.GetCmdline()) + 16
		if total > maxProcesses {
			return fmt.Errorf("what container %s says of its processes is longer than %d bytes", container, maxProcesses)
		}
		return yield(r)
	})
}
