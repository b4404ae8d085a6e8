// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/shimapi"
)

// guestTypes are file systems that the guest's kernel mounts for a container
// without anything of the host's.
var guestTypes = []string{"proc", "sysfs", "tmpfs", "mqueue", "devpts", "cgroup", "cgroup2"}

// mounts turns bind mounts of host paths into shares and keeps the guest's own.
func (c *converter) mounts() error {
	known := map[string]bool{}
	kept := c.spec.Mounts[:0]
	for _, m := range c.spec.Mounts {
		known[m.Destination] = true
		var err error
		if isBind(m) {
			m, err = c.bind(m)
		} else if !slices.Contains(guestTypes, m.Type) {
			err = refuse("mount "+m.Destination, "type %q cannot be mounted in the guest", m.Type)
		}
		if err != nil {
			return err
		}
		if m.Destination != "" {
			kept = append(kept, m)
		}
	}
	c.spec.Mounts = kept
	for dest := range c.in.Settings.Mounts {
		if !known[dest] {
			return refuse("annotation for mount "+dest, "there is no such mount")
		}
	}
	return nil
}

func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// bind returns the guest's mount for a bind of the host's; one without a
// destination means that another mount takes its place.
func (c *converter) bind(m specs.Mount) (specs.Mount, error) {
	name := "mount " + m.Destination
	dest := path.Clean(filepath.ToSlash(m.Destination))
	if c.in.Settings.Mounts[m.Destination].Socket {
		return c.socket(name, m)
	}
	if len(c.in.Settings.Mounts[m.Destination].Layers) > 0 {
		return c.image(name, m)
	}
	src, err := c.in.Inspect(m.Source)
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	if dest == "/dev/shm" && src.TmpfsSize > 0 {
		return guestMemory(m, src.TmpfsSize), nil
	}
	if dest == "/etc/resolv.conf" && c.in.Private && !c.in.Settings.NoEtc {
		c.drop("%s: %s describes the host's network, the machine's resolver is bound instead", name, m.Source)
		return specs.Mount{}, nil
	}
	if c.in.Settings.Mounts[m.Destination].Disk {
		return c.volume(name, m, src)
	}
	if !src.Dir && !src.Regular {
		return m, refuse(name, "bind source %s is a %s: only directories and regular files can be shared with a machine", m.Source, src.Kind)
	}
	share := ShareSpec{Index: len(c.out.Shares), Source: m.Source, Dest: m.Destination, File: src.Regular, Cache: CacheLoose}
	options, err := bindOptions(name, m.Options, &share)
	if err != nil {
		return m, err
	}
	if len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
		return m, refuse(name, "uidMappings: id-mapped mounts of a share are not possible")
	}
	fillBelow := false
	if extra, ok := c.in.Settings.Mounts[m.Destination]; ok {
		if extra.Cache != "" {
			share.Cache = extra.Cache
		}
		share.UID, share.GID = extra.UID, extra.GID
		share.Fill = extra.Fill && extra.Subpath == ""
		fillBelow = extra.Fill && !share.ReadOnly
	}
	if p := c.spec.Process; p != nil {
		share.User, share.Group = p.User.UID, p.User.UID
		share.UserName = userName(p.User.Username)
	}
	c.out.Shares = append(c.out.Shares, share)
	m.Type, m.Options = "bind", options
	m.Source = shareDir(c.in.ID, share.Index)
	if share.File {
		m.Source += "/" + src.Name
		return m, nil
	}
	return c.below(m, fillBelow), nil
}

// userName returns what is to be looked up in the image of a user that is
// written as Docker does, "" if the user is a number.
func userName(name string) string {
	name, _, _ = strings.Cut(name, ",")
	user, _, _ := strings.Cut(name, ":")
	if _, err := strconv.ParseUint(user, 10, 32); err == nil {
		return ""
	}
	return name
}

// volume returns the guest's mount for a disk image.
func (c *converter) volume(name string, m specs.Mount, src Source) (specs.Mount, error) {
	if !src.Regular {
		return m, refuse(name, "%s is no disk image", m.Source)
	}
	var as ShareSpec
	options, err := bindOptions(name, m.Options, &as)
	if err != nil {
		return m, err
	}
	extra := c.in.Settings.Mounts[m.Destination]
	v := VolumeSpec{
		Index: len(c.out.Volumes), Source: m.Source, Dest: m.Destination, Fill: extra.Fill && extra.Subpath == "",
	}
	c.out.Volumes = append(c.out.Volumes, v)
	m.Type, m.Options, m.Source = "bind", options, volumeDir(c.in.ID, v.Index)
	return c.below(m, extra.Fill && !as.ReadOnly), nil
}

// socket returns the guest's mount for a socket that connections to the host's
// are made through.
func (c *converter) socket(name string, m specs.Mount) (specs.Mount, error) {
	options, err := bindOptions(name, m.Options, &ShareSpec{})
	if err != nil {
		return m, err
	}
	sp := SocketSpec{Index: len(c.out.Sockets), Source: m.Source, Dest: m.Destination}
	c.out.Sockets = append(c.out.Sockets, sp)
	m.Type, m.Options, m.Source = "bind", options, socketPath(c.in.ID, sp.Index)
	return m, nil
}

// guestMemory replaces an engine's tmpfs on the host by one in the guest:
// shared memory must be memory of the kernel that runs the processes.
func guestMemory(m specs.Mount, size uint64) specs.Mount {
	return specs.Mount{
		Destination: m.Destination,
		Type:        "tmpfs",
		Source:      "shm",
		Options:     []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)},
	}
}

// sharedMemory has /dev/shm be the tmpfs of the container whose IPC is shared,
// unless something else is mounted there.
func (c *converter) sharedMemory() error {
	owner := c.in.Settings.IPC
	if owner == "" {
		return nil
	}
	if owner != path.Base(owner) || !filepath.IsLocal(owner) || owner == "." {
		return refuse("annotation "+shimapi.AnnotationIPC, "%q is no container", owner)
	}
	i := slices.IndexFunc(c.spec.Mounts, func(m specs.Mount) bool {
		return path.Clean(m.Destination) == "/dev/shm" && m.Type == "tmpfs"
	})
	if owner == c.in.ID {
		c.out.SharedMemory = []string{"nosuid", "noexec", "nodev", "mode=1777"}
		if i >= 0 {
			c.out.SharedMemory = c.spec.Mounts[i].Options
		}
	}
	if i >= 0 {
		c.spec.Mounts[i] = specs.Mount{
			Destination: "/dev/shm", Type: "bind", Source: sharedMemoryDir(owner),
			Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev"},
		}
	}
	return nil
}

// sharedMemoryDir is where the guest mounts the tmpfs of a container that others
// may share.
func sharedMemoryDir(id string) string { return guestapi.ContainerDir(id) + "/shm" }

// bindFlags are options of a bind mount that runc applies in the guest.
var bindFlags = []string{
	"bind", "rbind", "private", "rprivate", "unbindable", "runbindable",
	"suid", "nosuid", "dev", "nodev", "exec", "noexec", "rro", "rrw",
	"sync", "async", "dirsync", "atime", "noatime", "diratime", "nodiratime",
	"relatime", "norelatime", "strictatime", "nostrictatime", "symfollow", "nosymfollow",
	"rsuid", "rnosuid", "rdev", "rnodev", "rexec", "rnoexec", "ratime", "rnoatime",
	"rdiratime", "rnodiratime", "rrelatime", "rnorelatime", "rstrictatime", "rnostrictatime",
	"rsymfollow", "rnosymfollow",
}

// bindOptions checks every option and reads from them what the share must be.
func bindOptions(name string, options []string, share *ShareSpec) ([]string, error) {
	out := make([]string, 0, len(options))
	for _, o := range options {
		switch {
		case o == "ro" || o == "rro":
			share.ReadOnly = true
		case o == "rw":
			share.ReadOnly = false
		case slices.Contains(bindFlags, o):
		case slices.Contains([]string{"shared", "rshared", "slave", "rslave"}, o):
			return nil, checkPropagation(name, o)
		default:
			return nil, refuse(name, "option %q is not possible for a share", o)
		}
		out = append(out, o)
	}
	return out, nil
}

// guestMount describes a share's mount to the guest. One that follows the host
// is mounted writable, since what the host does is repeated on it: the server
// refuses changes, and the container's bind is read-only by its own option.
func (s ShareSpec) guestMount(id string, source *guestapi.Mount_Share) *guestapi.Mount {
	return &guestapi.Mount{
		Target:   shareDir(id, s.Index),
		ReadOnly: s.ReadOnly && !s.Fill && (s.Static || s.Cache == CacheNone),
		Source:   source,
	}
}
