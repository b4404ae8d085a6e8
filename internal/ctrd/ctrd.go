// SPDX-License-Identifier: Apache-2.0

// Package ctrd is the containerd inside the daemon: content, images, leases,
// garbage collection, snapshots, tasks and events in this process, with the
// plugins of plugins.go and no others, and the snapshotter and differ "byre".
//
// Everything is in two directories: Root keeps what must last, State what
// belongs to running tasks (bundles, mounts, sockets). A kill at any time leaves
// both in order: metadata is written in transactions, files are named only when
// whole, and what no name reaches any more is collected at the next start.
// Shims are processes of their own. They outlive the daemon, and the next one
// finds them by their bundles in State.
//
// Nothing here needs root, mounts or device nodes. The sockets are in a
// directory that its owner alone may enter, so that who reaches them is the
// daemon's user; "ctr -a ADDRESS -n byre" of any build of containerd 2 works.
//
// Containerd keeps some of its settings in package variables (logger, timeouts,
// plugins), so a process should have one Server at a time.
package ctrd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"

	"byre.dev/byre/internal/lockfile"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/snapshot"
)

// Namespace is the containerd namespace of byre's own objects.
const Namespace = "byre"

// Snapshotter is the name of the snapshotter, which is the namespace's default.
const Snapshotter = snapshot.Name

// Config describes a containerd.
type Config struct {
	// Root and State are the directories of lasting and of running things.
	// They differ, and one Server at a time has them.
	Root, State string
	// ShimDir is where the shim's binary is looked for before the PATH; empty
	// means the directory of this program. A change is made to the process's
	// PATH, as that is where containerd looks.
	ShimDir string
	// Template and ScratchSize describe scratch disks, as in snapshot.Config.
	Template    string
	ScratchSize int64
	// Log receives containerd's log; nil discards it.
	Log *slog.Logger
}

// Server is a running containerd.
type Server struct {
	sockets sockets
	client  *client.Client
	inner   *server.Server
	cancel  context.CancelFunc
	lock    *lockfile.Lock

	closeOnce sync.Once
	closeErr  error
}

// Start starts containerd and returns once it answers and has found the shims
// that are running. Ctx bounds the start only. If another process has the
// directories, the error says so at once.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{}
	defer func() {
		if err != nil {
			if s.lock != nil {
				stores.Delete(filepath.Clean(cfg.Root))
			}
			err = errors.Join(fmt.Errorf("start containerd: %w", err), s.Close())
		}
	}()
	if s.lock, err = lockRoot(cfg); err != nil {
		return nil, err
	}
	if s.sockets, err = socketDir(cfg.Root, cfg.State); err != nil {
		return nil, err
	}
	if err := findShim(cfg.ShimDir); err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(withLogger(context.WithoutCancel(ctx), cfg.Log))
	s.cancel = cancel

	conf := serverConfig(cfg, s.sockets)
	if err := server.CreateTopLevelDirectories(conf); err != nil {
		return nil, err
	}
	// Containerd opens State to mapped users, of whom there are none here.
	if err := os.Chmod(cfg.State, 0o700); err != nil {
		return nil, err
	}
	if err := setTemp(cfg.Root); err != nil {
		return nil, err
	}
	if s.inner, err = server.New(run, conf); err != nil {
		return nil, err
	}
	if err := s.inner.Start(run); err != nil {
		return nil, err
	}
	s.inner.Wait()
	if err := s.sockets.protect(); err != nil {
		return nil, err
	}
	blobs, ok := takeStore(cfg.Root)
	if !ok {
		return nil, errors.New("its content store was not handed out")
	}
	if s.client, err = dial(s.sockets.grpc, blobs); err != nil {
		return nil, err
	}
	return s, makeNamespace(ctx, s.client)
}

// lockRoot makes sure that no other process uses Root.
func lockRoot(cfg Config) (*lockfile.Lock, error) {
	if !filepath.IsAbs(cfg.Root) || !filepath.IsAbs(cfg.State) {
		return nil, fmt.Errorf("root %q and state %q must be absolute paths", cfg.Root, cfg.State)
	}
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, err
	}
	l, err := lockfile.Try(filepath.Join(cfg.Root, "lock"))
	if errors.Is(err, lockfile.ErrHeld) {
		return nil, fmt.Errorf("%s is in use by another daemon: stop it first, or use another directory: %w", cfg.Root, err)
	}
	return l, err
}

// setTemp gives containerd a place for temporary mount points, which only
// foreign snapshotters make use of.
func setTemp(root string) error {
	dir := filepath.Join(root, "tmpmounts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return mount.SetTempMountLocation(dir)
}

// dial connects to the services at address, but for blobs, which need no
// connection.
func dial(address string, blobs content.Store) (*client.Client, error) {
	return client.New(address,
		client.WithServices(client.WithContentStore(blobs)),
		client.WithDefaultNamespace(Namespace),
		client.WithDefaultRuntime(shimapi.Runtime),
		client.WithDefaultPlatform(platforms.Only(snapshot.GuestPlatform())))
}

// makeNamespace makes the namespace with the defaults that clients read there.
func makeNamespace(ctx context.Context, c *client.Client) error {
	labels := map[string]string{
		"containerd.io/defaults/snapshotter": Snapshotter,
		"containerd.io/defaults/runtime":     shimapi.Runtime,
	}
	ctx = namespaces.WithNamespace(ctx, Namespace)
	store := c.NamespaceService()
	err := store.Create(ctx, Namespace, labels)
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	for k, v := range labels {
		if err := store.SetLabel(ctx, Namespace, k, v); err != nil {
			return err
		}
	}
	return nil
}

// Client returns a client with the namespace, snapshotter, runtime and platform
// of byre as its defaults. It is the server's, which closes it.
func (s *Server) Client() *client.Client { return s.client }

// Address is the path of the gRPC socket, for clients in other processes.
func (s *Server) Address() string { return s.sockets.grpc }

// ShimSockets is the directory where shims have their sockets; empty where they
// use none in directories.
func (s *Server) ShimSockets() string { return s.sockets.shims }

// Close stops answering and releases the directories. Tasks go on running.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		if s.client != nil {
			s.closeErr = s.client.Close()
		}
		if s.cancel != nil {
			s.cancel()
		}
		if s.inner != nil {
			s.inner.Stop()
		}
		s.sockets.remove()
		if s.lock != nil {
			s.closeErr = errors.Join(s.closeErr, s.lock.Close())
		}
	})
	return s.closeErr
}
