// SPDX-License-Identifier: Apache-2.0

// Package change applies instructions of a Dockerfile to the configuration of
// an image that is made without one: the option --change of docker commit and
// docker import.
package change

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Apply returns a copy of cfg changed by lines, one instruction each. The
// instructions that say nothing about a configuration are refused.
func Apply(cfg container.Config, lines []string) (container.Config, error) {
	if len(lines) == 0 {
		return cfg, nil
	}
	file, err := parser.Parse(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return cfg, invalid("changes: %v", err)
	}
	cfg.Env, cfg.OnBuild = slices.Clone(cfg.Env), slices.Clone(cfg.OnBuild)
	cfg.Labels, cfg.Volumes, cfg.ExposedPorts = maps.Clone(cfg.Labels), maps.Clone(cfg.Volumes), maps.Clone(cfg.ExposedPorts)
	a := applier{cfg: &cfg, lex: shell.NewLex('\\')}
	for _, node := range file.AST.Children {
		cmd, err := instructions.ParseCommand(node)
		if err != nil {
			return cfg, invalid("change %q: %v", node.Original, err)
		}
		if err := a.apply(cmd); err != nil {
			return cfg, invalid("change %q: %v", node.Original, err)
		}
	}
	return cfg, nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

type applier struct {
	cfg *container.Config
	lex *shell.Lex
	// cmd says that a CMD was among the instructions.
	cmd bool
}

func (a *applier) expand(word string) (string, error) {
	s, _, err := a.lex.ProcessWord(word, shell.EnvsFromSlice(a.cfg.Env))
	return s, err
}

func (a *applier) apply(cmd instructions.Command) error {
	if e, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		if err := e.Expand(a.expand); err != nil {
			return err
		}
	}
	c := a.cfg
	switch cmd := cmd.(type) {
	case *instructions.EnvCommand:
		for _, kv := range cmd.Env {
			c.Env = setEnv(c.Env, kv.Key, kv.Value)
		}
	case *instructions.LabelCommand:
		c.Labels = orMade(c.Labels)
		for _, kv := range cmd.Labels {
			c.Labels[kv.Key] = kv.Value
		}
	case *instructions.ExposeCommand:
		return a.expose(cmd.Ports)
	case *instructions.VolumeCommand:
		c.Volumes = orMade(c.Volumes)
		for _, v := range cmd.Volumes {
			if v = strings.TrimSpace(v); v == "" {
				return fmt.Errorf("VOLUME specified can not be an empty string")
			}
			c.Volumes[v] = struct{}{}
		}
	case *instructions.UserCommand:
		c.User = cmd.User
	case *instructions.WorkdirCommand:
		return a.workdir(cmd.Path)
	case *instructions.StopSignalCommand:
		c.StopSignal = cmd.Signal
	case *instructions.OnbuildCommand:
		c.OnBuild = append(c.OnBuild, cmd.Expression)
	default:
		return a.command(cmd)
	}
	return nil
}

func orMade[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

func setEnv(env []string, name, value string) []string {
	for i, e := range env {
		if n, _, _ := strings.Cut(e, "="); n == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

func (a *applier) expose(ports []string) error {
	for _, p := range ports {
		p, err := a.expand(p)
		if err != nil {
			return err
		}
		r, err := network.ParsePortRange(p)
		if err != nil {
			return err
		}
		if a.cfg.ExposedPorts == nil {
			a.cfg.ExposedPorts = network.PortSet{}
		}
		for port := range r.All() {
			a.cfg.ExposedPorts[port] = struct{}{}
		}
	}
	return nil
}

func (a *applier) workdir(dir string) error {
	if dir == "" {
		return fmt.Errorf("WORKDIR requires a path")
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", a.cfg.WorkingDir, dir)
	}
	a.cfg.WorkingDir = path.Clean(dir)
	return nil
}

// command does the instructions that hold a command. An ENTRYPOINT takes away
// the CMD of before.
func (a *applier) command(cmd instructions.Command) error {
	c := a.cfg
	switch cmd := cmd.(type) {
	case *instructions.CmdCommand:
		c.Cmd, a.cmd = a.argv(cmd.ShellDependantCmdLine), true
	case *instructions.EntrypointCommand:
		c.Entrypoint = a.argv(cmd.ShellDependantCmdLine)
		if !a.cmd {
			c.Cmd = nil
		}
	case *instructions.HealthCheckCommand:
		c.Healthcheck = cmd.Health
	default:
		return fmt.Errorf("%s is not a valid change command", strings.ToUpper(cmd.Name()))
	}
	return nil
}

func (a *applier) argv(line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return slices.Clone(line.CmdLine)
	}
	sh := a.cfg.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(sh), strings.Join(line.CmdLine, " "))
}
