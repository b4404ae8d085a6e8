// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCapabilities are Docker's.
func defaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
		"CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// allCapabilities are those of the guest's kernel, in the order of their
// numbers (linux/capability.h).
func allCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
		"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
		"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
		"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
		"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
		"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
		"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
		"CAP_CHECKPOINT_RESTORE",
	}
}

func withCapabilities(p *specs.Process, h *container.HostConfig) error {
	if h.Privileged {
		p.Capabilities = capabilitySets(allCapabilities())
		return nil
	}
	add, err := NormalizeCapabilities(h.CapAdd)
	if err != nil {
		return err
	}
	drop, err := NormalizeCapabilities(h.CapDrop)
	if err != nil {
		return err
	}
	caps := defaultCapabilities()
	if slices.Contains(add, "ALL") {
		caps = allCapabilities()
	}
	if slices.Contains(drop, "ALL") && !slices.Contains(add, "ALL") {
		caps = nil
	}
	caps = slices.DeleteFunc(caps, func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if c != "ALL" && !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	p.Capabilities = capabilitySets(caps)
	return nil
}

// capabilitySets is what a process holds: no ambient ones, as in Docker.
func capabilitySets(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
}

// NormalizeCapabilities brings names to their form in the specification: upper
// case with CAP_, or ALL. Unknown ones are refused.
func NormalizeCapabilities(names []string) ([]string, error) {
	var caps []string
	for _, name := range names {
		c := strings.ToUpper(strings.TrimSpace(name))
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if c != "ALL" && !slices.Contains(allCapabilities(), c) {
			return nil, invalid(`invalid capability: unknown capability: %q`, name)
		}
		caps = append(caps, c)
	}
	return caps, nil
}
