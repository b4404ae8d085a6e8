// SPDX-License-Identifier: Apache-2.0

// Command byre runs Linux containers, each in a virtual machine of its own. It
// is docker's command line, the daemon behind it ("byre serve"), and the
// examination of the host ("byre doctor").
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"byre.dev/byre/internal/cli"
	"byre.dev/byre/internal/daemon"
	"byre.dev/byre/internal/doctor"
	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/spare"
	"byre.dev/byre/internal/usernet"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run())
}

func run() int {
	dir, err := home.Find(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "byre:", err)
		return 1
	}
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "byre: find own program:", err)
		return 1
	}
	p := program{home: dir, exe: exe}
	return cli.Main(context.Background(), cli.Config{
		Version: version,
		Home:    dir,
		Serve:   p.serve,
		Doctor:  p.doctor,
		Network: p.network,
	}, os.Args[1:])
}

// program holds what the verbs share.
type program struct {
	home home.Dir
	exe  string
}

func (p program) log() *slog.Logger {
	level := slog.LevelInfo
	if os.Getenv("BYRE_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func (p program) serve(ctx context.Context, ready func()) error {
	spares, err := spare.ParseCount(os.Getenv(spare.Env))
	if err != nil {
		return err
	}
	image, err := guestimage.Find(os.Getenv(guestimage.Env), filepath.Dir(p.exe))
	if err != nil {
		return err
	}
	// Shims and switches that the daemon starts find the same home.
	if err := os.Setenv(home.Env, string(p.home)); err != nil {
		return fmt.Errorf("pass on %s: %w", home.Env, err)
	}
	idle, err := builderIdle(os.Getenv(idleEnv))
	if err != nil {
		return err
	}
	return daemon.Run(ctx, daemon.Config{
		Home:            p.home,
		ShimDir:         filepath.Dir(p.exe),
		ScratchTemplate: image.Scratch,
		NetworkCommand:  []string{p.exe, cli.NetworkVerb},
		BuilderImage:    filepath.Join(image.Dir, "builder.tar"),
		BuilderIdle:     idle,
		Spares:          spares,
		Build:           engine.Build{Version: version, Kernel: image.KernelRelease(), Driver: driverName},
		Log:             p.log(),
	}, ready)
}

// idleEnv names the variable that says how long the builder stays after a
// build, for example 30m.
const idleEnv = "BYRE_BUILDER_IDLE"

// builderIdle is 0, the default, where nothing is said.
func builderIdle(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is no duration: 10m is one", idleEnv, s)
	}
	return d, nil
}

func (p program) doctor(ctx context.Context, w io.Writer) error {
	checks := append(machineChecks(p.home, filepath.Dir(p.exe)), doctor.HostChecks(p.home)...)
	return doctor.Run(ctx, w, checks)
}

func (p program) network(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: wants the network's directory and nothing else", cli.NetworkVerb)
	}
	return usernet.Main(ctx, args[0], p.log())
}
