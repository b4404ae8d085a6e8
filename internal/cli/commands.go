// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	_ "unsafe" // for go:linkname

	"github.com/docker/cli/cli/command"
	// Each registers its commands.
	_ "github.com/docker/cli/cli/command/builder"
	_ "github.com/docker/cli/cli/command/checkpoint"
	_ "github.com/docker/cli/cli/command/container"
	_ "github.com/docker/cli/cli/command/context"
	_ "github.com/docker/cli/cli/command/image"
	_ "github.com/docker/cli/cli/command/manifest"
	_ "github.com/docker/cli/cli/command/network"
	_ "github.com/docker/cli/cli/command/plugin"
	_ "github.com/docker/cli/cli/command/registry"
	_ "github.com/docker/cli/cli/command/system"
	_ "github.com/docker/cli/cli/command/volume"
	"github.com/spf13/cobra"
)

// dockerCommands returns docker's commands that byre is linked with: all but
// those of [swarmCommands], whose packages take as long to initialise as all the
// rest of a command does. docker/cli offers its registry in a package of its own
// that imports all of them, hence the name for its inner function.
//
//go:linkname dockerCommands github.com/docker/cli/internal/commands.Commands
func dockerCommands() []func(command.Cli) *cobra.Command

// swarmCommands are docker's for swarms, of which byre has none.
var swarmCommands = []string{"config", "node", "secret", "service", "stack", "swarm"}

// addDockerCommands adds docker's commands. Those for swarms are refused by name.
func addDockerCommands(root *cobra.Command, dockerCli command.Cli) {
	for _, c := range dockerCommands() {
		root.AddCommand(c(dockerCli))
	}
	for _, name := range swarmCommands {
		root.AddCommand(&cobra.Command{
			Use:                name,
			Hidden:             true,
			DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return fmt.Errorf("byre: %s: byre has no swarm: docker's own program has this command for daemons that have", name)
			},
		})
	}
}
