// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command buildkitd is the BuildKit of byre's builder: the controller and the
// runc worker of moby/buildkit, in a machine of their own. The daemon talks to
// it over one byte stream at a time (link), which carries the control API's
// connections one way and questions about the daemon's own images the other.
//
// It ends when no daemon has shown itself for the time that it is given: the
// machine goes with it, and the cache stays on its disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"google.golang.org/grpc"
)

func main() {
	var cfg options
	flag.StringVar(&cfg.root, "root", "/var/lib/buildkit", "directory of the cache")
	flag.StringVar(&cfg.socket, "socket", "/run/builder.sock", "where the daemon's link is taken")
	flag.DurationVar(&cfg.alone, "alone", 15*time.Minute, "how long to wait for a daemon before ending")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintf(os.Stderr, "buildkitd: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	root, socket string
	alone        time.Duration
}

// run serves until ctx ends or no daemon shows itself any more.
func run(ctx context.Context, cfg options) (err error) {
	if err := os.MkdirAll(cfg.root, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(cfg.root, "buildkitd.lock"))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return errors.Join(errors.New("the cache is in use"), err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()

	links := newLinks(cfg.alone)
	traces := newTraces()
	server := grpc.NewServer(append(serverOptions(), grpc.StatsHandler(traceCalls(traces)))...)
	c, err := newController(ctx, cfg.root, links)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), traces.Shutdown(context.WithoutCancel(ctx))) }()
	c.Register(server)

	ended := make(chan error, 2)
	go func() { ended <- server.Serve(links) }()      // awaited below
	go func() { ended <- links.listen(cfg.socket) }() // awaited below
	select {
	case err = <-ended:
	case <-ctx.Done():
	case <-links.abandoned():
		fmt.Fprintln(os.Stderr, "buildkitd: no daemon: ending")
	}
	_ = links.Close()
	server.Stop()
	<-ended
	return err
}
