// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is PATH where neither image nor request say otherwise.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func withProcess(s *specs.Spec, c Container) error {
	args := slices.Concat(c.Config.Entrypoint, c.Config.Cmd)
	if len(args) == 0 {
		return invalid("no command specified")
	}
	s.Process = &specs.Process{
		Args:     args,
		Cwd:      workdir(c.Config.WorkingDir),
		Terminal: c.Config.Tty,
		Env:      Env(c.Config),
		User:     user(c.Config.User, c.Host),
	}
	if c.Config.Tty {
		s.Process.ConsoleSize = consoleSize(c.Host.ConsoleSize)
	}
	if c.Host.OomScoreAdj != 0 {
		adj := c.Host.OomScoreAdj
		s.Process.OOMScoreAdj = &adj
	}
	for _, u := range c.Host.Ulimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name),
			Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	return withCapabilities(s.Process, c.Host)
}

// user fills in what needs no look into the image; the guest resolves Username.
func user(name string, h *container.HostConfig) specs.User {
	if name == "" {
		// Root has groups in the image's files, too.
		name = "0"
	}
	u := specs.User{Username: name, Umask: h.Umask}
	uid, gid, hasGroup := strings.Cut(name, ":")
	if n, err := strconv.ParseUint(uid, 10, 32); err == nil {
		u.UID = uint32(n)
	}
	if n, err := strconv.ParseUint(gid, 10, 32); err == nil && hasGroup {
		u.GID = uint32(n)
	}
	for _, g := range h.GroupAdd {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			u.AdditionalGids = append(u.AdditionalGids, uint32(n))
		} else {
			u.Username += "," + g
		}
	}
	return u
}

func workdir(dir string) string {
	if dir == "" {
		return "/"
	}
	return dir
}

func consoleSize(hw [2]uint) *specs.Box {
	if hw[0] == 0 && hw[1] == 0 {
		return nil
	}
	return &specs.Box{Height: hw[0], Width: hw[1]}
}

// Env returns the environment of a container's first process: Docker's
// defaults, overridden by the configuration's.
func Env(c *container.Config) []string {
	env := []string{"PATH=" + DefaultPath, "HOSTNAME=" + c.Hostname}
	if c.Tty {
		env = append(env, "TERM=xterm")
	}
	return MergeEnv(env, c.Env)
}

// MergeEnv overrides variables of base by those of over, and keeps the order
// of first appearance. An entry without "=" removes a variable.
func MergeEnv(base, over []string) []string {
	merged := slices.Clone(base)
	for _, entry := range over {
		name, _, set := strings.Cut(entry, "=")
		at := slices.IndexFunc(merged, func(e string) bool {
			n, _, _ := strings.Cut(e, "=")
			return n == name
		})
		switch {
		case at >= 0 && set:
			merged[at] = entry
		case at >= 0:
			merged = slices.Delete(merged, at, at+1)
		case set:
			merged = append(merged, entry)
		}
	}
	return merged
}

// Exec describes an added process.
type Exec struct {
	// Args is the command line.
	Args []string
	// Env is added to that of the container.
	Env []string
	// User overrides the container's; empty means the same.
	User string
	// Dir overrides the container's working directory.
	Dir string
	// Terminal gives it a terminal of its own of Size (height, width).
	Terminal bool
	Size     [2]uint
	// Privileged gives it all capabilities.
	Privileged bool
}

// ExecProcess makes the description of an added process of a container that
// runs by s.
func ExecProcess(s *specs.Spec, h *container.HostConfig, e Exec) *specs.Process {
	p := *s.Process
	p.Args, p.Terminal, p.ConsoleSize = e.Args, e.Terminal, nil
	p.Env = MergeEnv(p.Env, e.Env)
	if e.Terminal {
		p.ConsoleSize = consoleSize(e.Size)
		p.Env = MergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	if e.User != "" {
		// As in dockerd: groups added to the container are not those of
		// another user.
		p.User = user(e.User, &container.HostConfig{Umask: h.Umask})
	}
	if e.Dir != "" {
		p.Cwd = e.Dir
	}
	if e.Privileged {
		p.Capabilities = capabilitySets(allCapabilities())
	}
	return &p
}
