// SPDX-License-Identifier: Apache-2.0

// Command byred is what byre's command line starts: the daemon ("byre serve"),
// the switches of its networks, and the examination of the host ("byre doctor").
// Its arguments are those of internal/daemonapi.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"byre.dev/byre/internal/daemon"
	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/doctor"
	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/interrupt"
	"byre.dev/byre/internal/localsock"
	"byre.dev/byre/internal/spare"
	"byre.dev/byre/internal/usernet"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := interrupt.Context(context.Background())
	defer stop()
	err := do(ctx, os.Args[1:])
	if sig := interrupt.Cause(ctx); sig != nil && err != nil {
		return sig.ExitCode()
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	if _, taken := errors.AsType[*home.TakenError](err); taken {
		return daemonapi.ExitTaken
	}
	return 1
}

func do(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("byred: byre starts this program: see \"byre --help\"")
	}
	dir, err := home.Find(os.Getenv)
	if err != nil {
		return fmt.Errorf("byred: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("byred: find own program: %w", err)
	}
	p := program{home: dir, exe: exe}
	switch verb, rest := args[0], args[1:]; verb {
	case daemonapi.Serve:
		return p.serve(ctx, rest)
	case daemonapi.Network:
		return p.network(ctx, rest)
	case daemonapi.Doctor:
		return p.doctor(ctx, rest)
	case "--version":
		fmt.Fprintln(os.Stdout, "byred version", version)
		return nil
	default:
		return fmt.Errorf("byred: %q is no verb of this program's: see \"byre --help\"", verb)
	}
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

func (p program) serve(ctx context.Context, args []string) error {
	opts, err := daemonapi.ParseOptions(args)
	if err != nil {
		return err
	}
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
		NetworkCommand:  []string{p.exe, daemonapi.Network},
		BuilderImage:    filepath.Join(image.Dir, "builder.tar"),
		BuilderIdle:     idle,
		Spares:          spares,
		Remote:          daemon.Remote(opts),
		Build:           engine.Build{Version: version, Kernel: image.KernelRelease(), Driver: driverName},
		Log:             p.log(),
	}, func() {
		fmt.Fprintln(os.Stderr, "byre: the Docker API answers on", localsock.Address(p.home.Path("docker.sock")))
		for _, a := range opts.Addresses {
			fmt.Fprintln(os.Stderr, "byre: and to clients with certificates on tcp://"+a)
		}
	})
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

func (p program) doctor(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s: %q is no argument of this", daemonapi.Doctor, args[0])
	}
	checks := append(machineChecks(p.home, filepath.Dir(p.exe)), doctor.HostChecks(p.home)...)
	return doctor.Run(ctx, os.Stdout, checks)
}

func (p program) network(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: wants the network's directory and nothing else", daemonapi.Network)
	}
	return usernet.Main(ctx, args[0], p.log())
}
