// SPDX-License-Identifier: Apache-2.0

package initd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/netcfg"
	"byre.dev/byre/internal/guestapi"
)

// bootMount is one file system of the guest's own.
type bootMount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
	// optional mounts may fail: the kernel lacks the file system.
	optional bool
}

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

var bootMounts = [...]bootMount{
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755", false},
	{"proc", "/proc", "proc", noExec, "", false},
	{"sysfs", "/sys", "sysfs", noExec, "", false},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", noExec, "nsdelegate,memory_recursiveprot", false},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755", false},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", false},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false},
	{"mqueue", "/dev/mqueue", "mqueue", noExec, "", true},
	{"bpf", "/sys/fs/bpf", "bpf", noExec, "mode=0700", true},
}

func (m bootMount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil && !m.optional {
		return fmt.Errorf("make %s: %w", m.target, err)
	}
	err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data)
	if err != nil && !m.optional && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

// leaveRootfs makes the root a mount of its own. The initial root file system
// cannot be pivoted away from, which is what runc does; a bind of it, moved over
// it, can.
func leaveRootfs() error {
	const at = "/newroot"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return fmt.Errorf("make new root: %w", err)
	}
	if err := unix.Mount("/", at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind root: %w", err)
	}
	if err := unix.Chdir(at); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return os.Remove(at)
}

// setting is a value written to a file of the kernel's; one that is not there
// belongs to a feature that is not.
type setting struct{ file, value string }

var settings = [...]setting{
	{"/sys/fs/cgroup/cgroup.subtree_control", "+cpu"},
	{"/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"},
	{"/sys/fs/cgroup/cgroup.subtree_control", "+io"},
	{"/sys/fs/cgroup/cgroup.subtree_control", "+memory"},
	{"/sys/fs/cgroup/cgroup.subtree_control", "+pids"},
	{"/sys/fs/cgroup/cgroup.subtree_control", "+hugetlb"},
	// Hot-added memory is used at once, most of it so that it can go again.
	{"/sys/module/memory_hotplug/parameters/online_policy", "auto-movable"},
	{"/sys/devices/system/memory/auto_online_blocks", "online"},
	// Huge pages only where asked for: a machine pays for what it touches.
	{"/sys/kernel/mm/transparent_hugepage/enabled", "madvise"},
	// What 1 GiB has without huge pages, for which 22 MiB would lie idle. The
	// kernel reckons anew when memory is added.
	{"/proc/sys/vm/min_free_kbytes", "4096"},
	// Each processor keeps 1 MiB of free pages to itself, not up to 29: those
	// are never reported to the host. 16 MiB of an idle machine lay there.
	{"/proc/sys/vm/percpu_pagelist_high_fraction", "1024"},
	{"/proc/sys/fs/inotify/max_user_watches", "1048576"},
	{"/proc/sys/fs/inotify/max_user_instances", "8192"},
	{"/proc/sys/vm/max_map_count", "1048576"},
	{"/proc/sys/vm/overcommit_memory", "1"},
	{"/proc/sys/net/ipv4/ping_group_range", "0 2147483647"},
	{"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
	{"/proc/sys/kernel/keys/maxkeys", "20000"},
	{"/proc/sys/kernel/keys/root_maxkeys", "1000000"},
}

func (s setting) do() error {
	f, err := os.OpenFile(s.file, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.value)
	return errors.Join(err, f.Close())
}

// boot sets the machine up before anything runs on it. What can be lived
// without is returned as warnings.
func boot() (warnings []error, err error) {
	if err := leaveRootfs(); err != nil {
		return nil, err
	}
	for _, m := range bootMounts {
		if err := m.do(); err != nil {
			return nil, err
		}
	}
	for _, s := range settings {
		if err := s.do(); err != nil {
			warnings = append(warnings, fmt.Errorf("write %q to %s: %w", s.value, s.file, err))
		}
	}
	if err := links(); err != nil {
		return warnings, err
	}
	if err := containersCgroup(); err != nil {
		return warnings, err
	}
	if err := netcfg.Loopback(); err != nil {
		return warnings, err
	}
	if err := unix.Sethostname([]byte("byre")); err != nil {
		return warnings, fmt.Errorf("set host name: %w", err)
	}
	return warnings, os.MkdirAll(guestapi.RuntimeDir, 0o755)
}

// links makes the names in /dev that programs expect.
func links() error {
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
		"/dev/core": "/proc/kcore",
	} {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	return nil
}

// cgroupDir is the cgroup above all containers.
const cgroupDir = "/sys/fs/cgroup/byre"

func containersCgroup() error {
	if err := os.MkdirAll(cgroupDir, 0o755); err != nil {
		return fmt.Errorf("make containers' cgroup: %w", err)
	}
	b, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control")
	if err != nil {
		return fmt.Errorf("read cgroup controllers: %w", err)
	}
	for _, c := range fields(b) {
		if err := (setting{cgroupDir + "/cgroup.subtree_control", "+" + c}).do(); err != nil {
			return fmt.Errorf("pass controller %s on: %w", c, err)
		}
	}
	return nil
}
