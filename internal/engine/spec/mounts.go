// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultShmSize is the size of /dev/shm where the request says nothing.
const DefaultShmSize = 64 << 20

// systemMounts are Docker's own mounts of every container.
func systemMounts(c Container) []specs.Mount {
	access, cgroups := "ro", "ro"
	if c.Host.Privileged {
		access, cgroups = "rw", "rw"
	}
	if sec, err := ParseSecurity(c.Host.SecurityOpt); err == nil && sec.WritableCgroups != nil {
		cgroups = map[bool]string{true: "rw", false: "ro"}[*sec.WritableCgroups]
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{cgroups, "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", c.Host.ShmSize)}},
	}
}

func withMounts(s *specs.Spec, c Container) error {
	own := slices.Clone(c.Mounts)
	// Parents come before what is mounted below them.
	slices.SortStableFunc(own, func(a, b Mount) int { return depth(a.Destination) - depth(b.Destination) })
	s.Mounts = slices.DeleteFunc(systemMounts(c), func(m specs.Mount) bool {
		return m.Destination == "/dev/shm" && c.Host.IpcMode.IsNone() || slices.ContainsFunc(own, func(o Mount) bool { return path.Clean(o.Destination) == m.Destination })
	})
	for _, m := range own {
		if m.Source == "" {
			s.Mounts = append(s.Mounts, tmpfs(m))
		} else {
			s.Mounts = append(s.Mounts, bind(m))
		}
	}
	return nil
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

func bind(m Mount) specs.Mount {
	kind, access := "rbind", "rw"
	if m.NonRecursive {
		kind = "bind"
	}
	if m.ReadOnly {
		access = "ro"
	}
	return specs.Mount{
		Destination: m.Destination, Type: "bind", Source: m.Source,
		Options: []string{kind, "rprivate", access},
	}
}

func tmpfs(m Mount) specs.Mount {
	options := []string{"noexec", "nosuid", "nodev"}
	for _, o := range m.Options {
		options = withOption(options, o)
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: options}
}

// withOption adds an option; "exec", "suid" and "dev" take the defaults away.
func withOption(options []string, o string) []string {
	switch o {
	case "exec", "suid", "dev":
		options = slices.DeleteFunc(options, func(have string) bool { return have == "no"+o })
	}
	if o == "" || slices.Contains(options, o) {
		return options
	}
	return append(options, o)
}

// TmpfsOptions checks the options of --tmpfs, separated by commas.
func TmpfsOptions(s string) ([]string, error) {
	var options []string
	for o := range strings.SplitSeq(s, ",") {
		name, _, _ := strings.Cut(o, "=")
		switch name {
		case "":
			continue
		case "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync",
			"noatime", "atime", "nodiratime", "diratime", "relatime", "norelatime", "strictatime", "nostrictatime",
			"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol":
			options = append(options, o)
		default:
			return nil, invalid("invalid tmpfs option %q", o)
		}
	}
	return options, nil
}
