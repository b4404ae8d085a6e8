// SPDX-License-Identifier: Apache-2.0

// Package spec turns a container as Docker describes it into an OCI runtime
// specification for the guest. It is pure: the same input gives the same
// specification on every host, whatever the host's own kernel or processors
// are, because the guest is where it holds.
//
// Users and groups by name are not resolved here: the image's /etc/passwd is a
// file of the guest. [Process] carries the whole of Docker's user string in
// process.user.username, and the guest resolves it against the container's root
// file system.
package spec

import (
	"fmt"
	"maps"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/shimapi"
)

// Container is what a specification is made from.
type Container struct {
	// ID is the container's ID.
	ID string
	// Config is the request merged with the image's configuration.
	Config *container.Config
	// Host is the request's HostConfig with its defaults filled in.
	Host *container.HostConfig
	// Mounts are the binds, volumes and tmpfs of the container, resolved.
	Mounts []Mount
	// Network connects the machine.
	Network shimapi.Network
	// Group names the machine to run in; empty means one of its own.
	Group string
	// Kernel is the release of the machine's kernel, "" where it is not known:
	// rules of seccomp profiles depend on it.
	Kernel string
	// Seccomp is the filter of containers that have none of their own; nil
	// means no filter.
	Seccomp func(*specs.Spec) *specs.LinuxSeccomp
}

// Mount is one resolved mount of a container.
type Mount struct {
	// Source is the host path of a bind; empty for a tmpfs.
	Source string
	// Destination is the path in the container.
	Destination string
	// ReadOnly mounts it read-only.
	ReadOnly bool
	// NonRecursive leaves out what is mounted below Source on the host.
	NonRecursive bool
	// Options are those of a tmpfs, as mount(8) spells them.
	Options []string
	// Settings go to the shim beside the mount.
	Settings *shimapi.Mount
}

// Build makes the specification. Input that cannot be honoured is refused by
// name with errdefs' ErrInvalidArgument.
func Build(c Container) (*specs.Spec, error) {
	s := &specs.Spec{
		Version:    specs.Version,
		Root:       &specs.Root{Path: "rootfs", Readonly: c.Host.ReadonlyRootfs},
		Hostname:   c.Config.Hostname,
		Domainname: c.Config.Domainname,
		Linux: &specs.Linux{
			CgroupsPath: "/byre/" + c.ID,
			Namespaces:  namespaces(c.Host),
			Sysctl:      maps.Clone(c.Host.Sysctls),
		},
	}
	steps := []func(*specs.Spec, Container) error{
		withProcess, withMounts, withResources, withSecurity, withAnnotations,
	}
	for _, step := range steps {
		if err := step(s, c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// namespaces are those of the container inside its machine. The network
// namespace is the machine's own, and so is the cgroup namespace where asked.
func namespaces(h *container.HostConfig) []specs.LinuxNamespace {
	all := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
	}
	if !h.CgroupnsMode.IsHost() {
		all = append(all, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return all
}

func withAnnotations(s *specs.Spec, c Container) error {
	s.Annotations = maps.Clone(c.Host.Annotations)
	var err error
	if s.Annotations, err = shimapi.Annotate(s.Annotations, shimapi.AnnotationNetwork, c.Network); err != nil {
		return err
	}
	if c.Group != "" {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[shimapi.AnnotationGroup] = c.Group
	}
	if c.Host.Init != nil && *c.Host.Init {
		if s.Annotations, err = shimapi.Annotate(s.Annotations, shimapi.AnnotationInit, true); err != nil {
			return err
		}
	}
	if c.Host.PidMode.IsContainer() {
		if s.Annotations, err = shimapi.Annotate(s.Annotations, shimapi.AnnotationPID, c.Host.PidMode.Container()); err != nil {
			return err
		}
	}
	if owner := ipcOwner(c); owner != "" {
		if s.Annotations, err = shimapi.Annotate(s.Annotations, shimapi.AnnotationIPC, owner); err != nil {
			return err
		}
	}
	settings := map[string]shimapi.Mount{}
	for _, m := range c.Mounts {
		if m.Settings != nil {
			settings[m.Destination] = *m.Settings
		}
	}
	if len(settings) > 0 {
		s.Annotations, err = shimapi.Annotate(s.Annotations, shimapi.AnnotationMounts, settings)
	}
	return err
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// ipcOwner is the container whose IPC is shared: another's, or the container's own
// where others may, "" where nobody does.
func ipcOwner(c Container) string {
	switch mode := c.Host.IpcMode; {
	case mode.IsContainer():
		return mode.Container()
	case mode.IsShareable():
		return c.ID
	default:
		return ""
	}
}
