// SPDX-License-Identifier: Apache-2.0

// Package cli is byre's command tree: docker's own command line, embedded, and
// byre's own verbs.
//
// docker's commands speak to byre's daemon over the door of the state directory;
// the first of them that needs the daemon starts it (autostart.go). DOCKER_HOST
// and docker's contexts are not followed: "byre run" always means byre. The
// options -H and --context still choose another daemon.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/commands"
	"github.com/docker/cli/cli/flags"
	"github.com/moby/moby/client"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
)

// NetworkVerb is the hidden verb that runs one network's switch process.
const NetworkVerb = "network-switch"

// Config is what the command tree needs from the program it is linked into.
type Config struct {
	// Version is the build's version, shown by "byre --version".
	Version string
	// Home is the state directory.
	Home home.Dir
	// Serve runs the daemon until ctx ends; ready is called once it answers.
	Serve func(ctx context.Context, ready func()) error
	// Doctor examines the host and writes its findings; the error says that
	// something keeps containers from running.
	Doctor func(ctx context.Context, w io.Writer) error
	// Network runs one network's switch until it is told to stop.
	Network func(ctx context.Context, args []string) error
}

// Main runs the command line args (without the program's name) and returns the
// process's exit code.
func Main(ctx context.Context, cfg Config, args []string) int {
	ctx, stop := signalContext(ctx)
	defer stop()
	err := run(ctx, cfg, args)
	if cause, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil {
		return 128 + int(cause.sig)
	}
	if err == nil || errdefs.IsCanceled(err) {
		return 0
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, err)
	}
	if status, ok := errors.AsType[cli.StatusError](err); ok && status.StatusCode != 0 {
		return status.StatusCode
	}
	return 1
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ sig syscall.Signal }

func (e *signalError) Error() string { return "ended by signal: " + e.sig.String() }

// signalContext ends ctx at the first terminating signal; the third one kills
// the process, for commands that do not heed their context.
func signalContext(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, terminationSignals...)
	go func() { // ends with the process: stop closes the channel
		seen := 0
		for s := range signals {
			sig, _ := s.(syscall.Signal)
			cancel(&signalError{sig})
			if seen++; seen == 3 {
				os.Exit(128 + int(sig))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

func run(ctx context.Context, cfg Config, args []string) error {
	if len(args) > 0 && args[0] == NetworkVerb {
		// The switch process stays small: nothing of docker's is set up.
		return cfg.Network(ctx, args[1:])
	}
	dockerCli, err := command.NewDockerCli(command.WithBaseContext(ctx))
	if err != nil {
		return err
	}
	logrus.SetOutput(dockerCli.Err())
	root, opts := rootCommand(dockerCli, cfg)
	top := cli.NewTopLevelCommand(root, dockerCli, opts, root.Flags())
	top.SetArgs(args)
	cmd, rest, err := top.HandleGlobalFlags()
	if err != nil {
		return err
	}
	var options []command.CLIOption
	var starter *autostart
	if len(opts.Hosts) == 0 && opts.Context == "" {
		starter = &autostart{home: cfg.Home, progress: dockerCli.Err()}
		options = ownDaemon(opts, starter)
	}
	if err := top.Initialize(options...); err != nil {
		return err
	}
	addPluginDir(dockerCli)
	given := rest
	rest = toBuildx(dockerCli, cmd, rest)
	if len(rest) > 0 {
		if _, _, err := cmd.Find(rest); err != nil {
			if found, err := runPlugin(ctx, dockerCli, cmd, pluginCall{
				name: rest[0], args: slices.Concat(args[:len(args)-len(given)], rest),
			}, starter); found {
				return err
			}
		}
	}
	cmd.SetArgs(rest)
	return cmd.ExecuteContext(ctx)
}

// ownDaemon points docker's client at byre's door, over which it starts the
// daemon when nobody answers. DOCKER_TLS_VERIFY means other daemons.
func ownDaemon(opts *flags.ClientOptions, starter *autostart) []command.CLIOption {
	opts.Hosts = []string{localsock.Address(starter.home.Path("docker.sock"))}
	opts.TLS, opts.TLSVerify = false, false
	return []command.CLIOption{
		command.WithAPIClientOptions(client.WithDialContext(
			func(ctx context.Context, _, _ string) (net.Conn, error) { return starter.dial(ctx) },
		)),
	}
}

func rootCommand(dockerCli *command.DockerCli, cfg Config) (*cobra.Command, *flags.ClientOptions) {
	root := &cobra.Command{
		Use:              "byre [OPTIONS] COMMAND [ARG...]",
		Short:            "Linux containers, each in a virtual machine of its own",
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.ShowHelp(dockerCli.Err())(cmd, args)
			}
			return fmt.Errorf("byre: unknown command: byre %s\n\nRun 'byre --help' for more information", args[0])
		},
		Version:               cfg.Version,
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(dockerCli.In())
	root.SetOut(dockerCli.Out())
	root.SetErr(dockerCli.Err())
	opts, _ := cli.SetupRootCommand(root)
	root.SetVersionTemplate("byre version {{.Version}}\n")
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	commands.AddCommands(root, dockerCli)
	for _, c := range root.Commands() {
		// The registry of docker's commands is all or nothing; byre has no swarm.
		if _, swarm := c.Annotations["swarm"]; swarm {
			c.Hidden = true
		}
	}
	root.AddCommand(serveCommand(cfg), doctorCommand(cfg))
	return root, opts
}

func serveCommand(cfg Config) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon in the foreground (other commands start it by themselves)",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := cfg.Serve(cmd.Context(), func() {
				fmt.Fprintln(cmd.ErrOrStderr(), "byre: the Docker API answers on", localsock.Address(cfg.Home.Path("docker.sock")))
			})
			if _, taken := errors.AsType[*home.TakenError](err); taken {
				return cli.StatusError{Cause: err, StatusCode: home.ExitTaken}
			}
			return err
		},
	}
}

func doctorCommand(cfg Config) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine this host: what works, what does not, and what to do about it",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cfg.Doctor(cmd.Context(), cmd.OutOrStdout())
		},
	}
}
