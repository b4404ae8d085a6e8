// SPDX-License-Identifier: Apache-2.0

// Command docker-compose is docker's compose as a plugin of byre's command line.
// It is compose's own command tree; what is added is where plugins are looked
// for: compose builds by buildx, which byre has beside this program.
package main

import (
	"os"
	"path/filepath"

	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/docker/cli/cli/command"
	"github.com/docker/compose/v5/cmd/compatibility"
	"github.com/docker/compose/v5/cmd/compose"
	"github.com/docker/compose/v5/cmd/prompt"
	api "github.com/docker/compose/v5/pkg/compose"
	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "unknown"

func main() {
	if plugin.RunningStandalone() {
		os.Args = append([]string{"docker"}, compatibility.Convert(os.Args[1:])...)
	}
	plugin.Run(rootCommand, metadata.Metadata{SchemaVersion: "0.1.0", Vendor: "Docker Inc.", Version: version},
		command.WithUserAgent("compose/"+version))
}

func rootCommand(cli command.Cli) *cobra.Command {
	root := compose.RootCommand(cli, &compose.BackendOptions{
		Options: []api.Option{api.WithPrompt(prompt.NewPrompt(cli.In(), cli.Out()).Confirm)},
	})
	root.AddCommand(compose.HooksCommand())
	own := root.PersistentPreRunE
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if err := plugin.PersistentPreRunE(cmd, args); err != nil {
			return err
		}
		findPlugins(cli)
		if own != nil {
			return own(cmd, args)
		}
		return nil
	}
	return root
}

// findPlugins adds the directory of this program to those of plugins.
func findPlugins(cli command.Cli) {
	exe, err := os.Executable()
	if err != nil {
		return // then there are docker's directories alone
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	file := cli.ConfigFile()
	file.CLIPluginsExtraDirs = append([]string{filepath.Dir(exe)}, file.CLIPluginsExtraDirs...)
}
