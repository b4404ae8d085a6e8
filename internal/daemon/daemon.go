// SPDX-License-Identifier: Apache-2.0

// Package daemon is "byre serve": it holds the state directory's lock, starts
// the embedded containerd, the engine over it and the Docker API over that,
// and takes them down in the reverse order. Containers, their shims and the
// networks' switches go on without it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"byre.dev/byre/internal/build"
	"byre.dev/byre/internal/builder"
	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/dockerapi"
	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
	"byre.dev/byre/internal/lockfile"
	"byre.dev/byre/internal/spare"
)

// stopLimit bounds how long open requests may go on once the daemon is told
// to stop.
const stopLimit = 5 * time.Second

// Config describes a daemon.
type Config struct {
	// Home is the state directory.
	Home home.Dir
	// ShimDir holds containerd-shim-byre-v1.
	ShimDir string
	// ScratchTemplate is the ext4 image that scratch disks are copied from.
	ScratchTemplate string
	// NetworkCommand runs a network's switch.
	NetworkCommand []string
	// BuilderImage is the docker-archive that builds run from; it need not be
	// there before the first one.
	BuilderImage string
	// BuilderIdle is how long the builder stays after a build; 0 means its
	// default.
	BuilderIdle time.Duration
	// Spares is how many machines are kept warm for the next containers.
	Spares spare.Count
	// Remote says where else the Docker API is served.
	Remote Remote
	// Build says what program this is.
	Build engine.Build
	// Log receives the daemon's messages; nil discards them.
	Log *slog.Logger
}

// Run serves until ctx ends and returns nil then. ready is called once the API
// answers.
func Run(ctx context.Context, cfg Config, ready func()) (err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Home.Prepare(); err != nil {
		return err
	}
	lock, err := takeHome(cfg.Home)
	if err != nil {
		return err
	}
	defer closeInto(&err, lock)
	// Before what takes long: certificates or an address that are no good are
	// said at once.
	remote, err := cfg.Remote.listen(ctx)
	if err != nil {
		return err
	}
	defer closeListeners(remote)

	store, err := ctrd.Start(ctx, ctrd.Config{
		Root:     cfg.Home.Path("containerd"),
		State:    cfg.Home.Path("run"),
		ShimDir:  cfg.ShimDir,
		Template: cfg.ScratchTemplate,
		Log:      cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("start the image store: %w", err)
	}
	defer closeInto(&err, store)

	spares, err := keepSpares(cfg, store.ShimSockets())
	if err != nil {
		return err
	}
	defer closeInto(&err, spares)
	engineConfig := engine.Config{
		Home:            string(cfg.Home),
		Containerd:      store.Client(),
		NetworkCommand:  cfg.NetworkCommand,
		Socket:          cfg.Home.Path("docker.sock"),
		ShimState:       cfg.Home.Path("run", "io.containerd.runtime.v2.task"),
		ScratchTemplate: cfg.ScratchTemplate,
		Starting:        spares.Starting,
		Build:           cfg.Build,
		Log:             cfg.Log,
	}
	eng, err := engine.New(ctx, engineConfig)
	if err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	defer closeWithin(ctx, &err, eng.Close)
	engineConfig.Home = cfg.Home.Path("builder")
	machine := builder.New(builder.Config{
		Engine: engineConfig, Archive: cfg.BuilderImage, Images: builder.ImagesOf(eng), Idle: cfg.BuilderIdle,
		Environ: os.Environ(), Log: cfg.Log,
	})
	defer closeWithin(ctx, &err, machine.Close)
	builds := build.New(build.Config{Builder: machine, Images: eng.Images, Log: cfg.Log})
	defer closeInto(&err, builds)
	return serve(ctx, cfg, remote, dockerapi.New(eng, builds, cfg.Log), ready)
}

// closeWithin closes what must not hold up the daemon's end for ever.
func closeWithin(ctx context.Context, err *error, end func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	*err = errors.Join(*err, end(ctx))
}

// keepSpares returns the keeper of spare machines, nil where there is to be none.
func keepSpares(cfg Config, sockets string) (*spare.Keeper, error) {
	if cfg.Spares == 0 {
		return nil, nil
	}
	if sockets == "" { // shims cannot hand over what they serve on
		if cfg.Spares == spare.Auto {
			return nil, nil
		}
		return nil, fmt.Errorf("%s=%v: spare machines are not possible on this system", spare.Env, cfg.Spares)
	}
	spec, err := engine.Rehearsal()
	if err != nil {
		return nil, fmt.Errorf("specify the rehearsal of spare machines: %w", err)
	}
	return spare.New(spare.Config{
		Program: filepath.Join(cfg.ShimDir, "containerd-shim-byre-v1"), Namespace: ctrd.Namespace,
		Dir: cfg.Home.Path(spare.Dir), Sockets: sockets, Spec: spec, Count: cfg.Spares, Log: cfg.Log,
	})
}

func closeInto(err *error, c io.Closer) { *err = errors.Join(*err, c.Close()) }

// takeHome makes this process the only daemon of a state directory.
func takeHome(dir home.Dir) (*lockfile.Lock, error) {
	lock, err := lockfile.Try(dir.Path("daemon.lock"))
	if errors.Is(err, lockfile.ErrHeld) {
		return nil, &home.TakenError{Dir: dir, Process: dir.Holder()}
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(dir.Path("daemon.pid"), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write daemon.pid: %w", err), lock.Close())
	}
	return lock, nil
}

func serve(ctx context.Context, cfg Config, remote []net.Listener, handler http.Handler, ready func()) error {
	own, err := localsock.Listen(cfg.Home.Path("docker.sock"))
	if err != nil {
		return err
	}
	doors := append([]net.Listener{own}, remote...)
	// BuildKit's clients may begin with HTTP/2, which no TLS negotiates here.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	var serving sync.WaitGroup
	served := make(chan error, len(doors))
	for _, l := range doors {
		serving.Go(func() { served <- srv.Serve(l) })
	}
	defer serving.Wait() // each ends with the server
	cfg.Log.Info("daemon started", "home", string(cfg.Home), "pid", os.Getpid(), "version", cfg.Build.Version)
	ready()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("serve the Docker API: %w", err), srv.Close())
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		// Streams that clients keep open end here; their containers go on.
		return srv.Close()
	}
	cfg.Log.Info("daemon stopped")
	return nil
}
