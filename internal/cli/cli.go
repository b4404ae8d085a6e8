// SPDX-License-Identifier: Apache-2.0

// Package cli is byre's command tree: docker's own command line, embedded, and
// byre's own verbs, which it hands to byred, the program that holds the daemon
// ([daemonapi]).
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
	"net"
	"os"
	"os/exec"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/flags"
	"github.com/moby/moby/client"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/interrupt"
	"byre.dev/byre/internal/localsock"
)

// Config is what the command tree needs from the program it is linked into.
type Config struct {
	// Version is the build's version, shown by "byre --version".
	Version string
	// Home is the state directory.
	Home home.Dir
	// Daemon is the path of byred, which the daemon is started from.
	Daemon string
	// Become has this process go on as byred with the arguments. Where a process
	// cannot do that it returns when that program has ended, with an
	// [exec.ExitError] for an exit code that is not 0.
	Become func(args ...string) error
}

// Main runs the command line args (without the program's name) and returns the
// process's exit code.
func Main(ctx context.Context, cfg Config, args []string) int {
	ctx, stop := interrupt.Context(ctx)
	defer stop()
	err := run(ctx, cfg, args)
	if sig := interrupt.Cause(ctx); sig != nil && err != nil {
		return sig.ExitCode()
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

func run(ctx context.Context, cfg Config, args []string) error {
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
		starter = &autostart{home: cfg.Home, program: cfg.Daemon, progress: dockerCli.Err()}
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
	addDockerCommands(root, dockerCli)
	root.AddCommand(serveCommand(cfg), doctorCommand(cfg))
	return root, opts
}

func doctorCommand(cfg Config) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine this host: what works, what does not, and what to do about it",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return become(cfg, daemonapi.Doctor)
		},
	}
}

// become goes on as the program that holds the daemon, whose exit code is then
// this process's.
func become(cfg Config, args ...string) error {
	err := cfg.Become(args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return cli.StatusError{StatusCode: exit.ExitCode()}
	}
	return err
}
