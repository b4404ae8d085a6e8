// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli-plugins/manager"
	"github.com/docker/cli/cli-plugins/socket"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"

	"byre.dev/byre/internal/localsock"
)

// pluginDir is where byre's own plugins are, beside its program. They come
// before those of docker's directories.
const pluginDir = "cli-plugins"

// addPluginDir lets docker's command line find byre's plugins.
func addPluginDir(dockerCli *command.DockerCli) {
	exe, err := os.Executable()
	if err != nil {
		return // then there are docker's directories alone
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	file := dockerCli.ConfigFile()
	file.CLIPluginsExtraDirs = append([]string{filepath.Join(filepath.Dir(exe), pluginDir)}, file.CLIPluginsExtraDirs...)
}

// pluginCall is a command that is a plugin's: its name, and all the arguments of
// this process, of which the plugin reads docker's options for itself.
type pluginCall struct {
	name string
	args []string
}

// runPlugin runs a command that is a plugin's; found is false when there is no
// such plugin. With starter, the plugin is to speak to byre's daemon, which is
// started if it does not run.
func runPlugin(ctx context.Context, dockerCli *command.DockerCli, root *cobra.Command, call pluginCall, starter *autostart) (found bool, err error) {
	plugin, err := manager.PluginRunCommand(dockerCli, call.name, root)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	// It has been given this process's arguments.
	plugin.Args = append(plugin.Args[:1], call.args...)
	if starter != nil {
		if !tellsOfItself(call.args) {
			if err := starter.ensure(ctx); err != nil {
				return true, err
			}
		}
		plugin.Env = daemonEnv(plugin.Env, starter)
	}
	// The plugin ends in order when this closes. At a terminal it gets the
	// signals itself.
	if srv, err := socket.NewPluginServer(nil); err == nil {
		plugin.Env = append(plugin.Env, socket.EnvKey+"="+srv.Addr().String())
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer func() {
			stop()
			_ = srv.Close()
		}()
	}
	err = plugin.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return true, cli.StatusError{StatusCode: exit.ExitCode()}
	}
	return true, err
}

// toBuildx turns the commands that build into those of the plugin buildx, as
// docker's own program does: where it is there, and DOCKER_BUILDKIT is not
// false.
func toBuildx(dockerCli *command.DockerCli, root *cobra.Command, args []string) []string {
	if on, err := strconv.ParseBool(os.Getenv("DOCKER_BUILDKIT")); err == nil && !on {
		return args
	}
	var rest []string
	switch {
	case len(args) > 0 && args[0] == "build":
		rest = args
	case len(args) > 1 && args[0] == "image" && args[1] == "build":
		rest = args[1:]
	case len(args) > 0 && args[0] == "builder":
		rest = args[1:]
	default:
		return args
	}
	if _, err := manager.GetPlugin("buildx", dockerCli, root); err != nil {
		return args
	}
	return append([]string{"buildx"}, rest...)
}

// tellsOfItself says that a plugin is asked for what needs no daemon: its version
// or its help.
func tellsOfItself(args []string) bool {
	if len(args) > 1 && args[1] == "--help" {
		return true
	}
	words := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
	return len(words) < 2 || words[1] == "version" || words[1] == "help"
}

// daemonEnv points a plugin's environment at byre's daemon and at no other.
func daemonEnv(env []string, starter *autostart) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH":
		default:
			kept = append(kept, e)
		}
	}
	return append(kept, "DOCKER_HOST="+localsock.Address(starter.home.Path("docker.sock")))
}
