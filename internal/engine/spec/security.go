// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// MaskedPaths are hidden from containers that say nothing about it.
func MaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

// ReadonlyPaths are read-only for containers that say nothing about it.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// Security is what --security-opt asks for.
type Security struct {
	// NoNewPrivileges keeps processes from gaining privileges.
	NoNewPrivileges bool
	// Unconfined means no seccomp filter.
	Unconfined bool
	// Profile is a seccomp filter of the request's own.
	Profile *Profile
	// SystemPaths leaves no path of /proc and /sys masked or read-only.
	SystemPaths bool
	// WritableCgroups says whether the container may change its own control
	// groups; nil means what it is otherwise: a privileged one may.
	WritableCgroups *bool
}

// ParseSecurity reads security options. Those of AppArmor and SELinux that turn
// them off are accepted, as the guest has neither; others are refused. What is
// no option at all is told of in dockerd's words.
func ParseSecurity(options []string) (Security, error) {
	var s Security
	for _, o := range options {
		name, value, ok := strings.Cut(o, "=")
		if !ok {
			name, value, ok = strings.Cut(o, ":")
		}
		if !ok {
			if o != "no-new-privileges" && o != "writable-cgroups" {
				return s, invalid("invalid --security-opt 1: %q", o)
			}
			value = "true"
		}
		if err := s.set(o, name, value); err != nil {
			return s, err
		}
	}
	return s, nil
}

// set takes one option, o, which is name and value.
func (s *Security) set(o, name, value string) (err error) {
	switch name {
	case "no-new-privileges":
		s.NoNewPrivileges, err = parseSwitch(o, value)
	case "writable-cgroups":
		var yes bool
		yes, err = parseSwitch(o, value)
		s.WritableCgroups = &yes
	case "seccomp":
		switch value {
		case "builtin":
			s.Unconfined, s.Profile = false, nil
		case "unconfined":
			s.Unconfined = true
		default:
			s.Profile, err = parseSeccomp(value)
		}
	case "systempaths":
		if s.SystemPaths = value == "unconfined"; !s.SystemPaths {
			return invalid("invalid --security-opt 2: %q", o)
		}
	case "apparmor", "label":
		if o != "apparmor=unconfined" && (name != "label" || value != "disable") {
			return invalid("byre does not support HostConfig.SecurityOpt %q: give no-new-privileges, writable-cgroups or seccomp; the guest has neither AppArmor nor SELinux", o)
		}
	default:
		return invalid("invalid --security-opt 2: %q", o)
	}
	return err
}

func parseSwitch(o, value string) (bool, error) {
	yes, err := strconv.ParseBool(value)
	if err != nil {
		return false, invalid("invalid --security-opt 2: %q", o)
	}
	return yes, nil
}

func withSecurity(s *specs.Spec, c Container) error {
	sec, err := ParseSecurity(c.Host.SecurityOpt)
	if err != nil {
		return err
	}
	s.Process.NoNewPrivileges = sec.NoNewPrivileges
	if c.Host.Privileged {
		if sec.Profile != nil { // a profile of the request's own holds even then
			s.Linux.Seccomp = sec.Profile.filter(s, c.Kernel)
		}
		return nil
	}
	if !sec.SystemPaths {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = systemPaths(c)
	}
	switch {
	case sec.Unconfined:
	case sec.Profile != nil:
		s.Linux.Seccomp = sec.Profile.filter(s, c.Kernel)
	case c.Seccomp != nil:
		s.Linux.Seccomp = c.Seccomp(s)
	}
	return nil
}

// systemPaths are those of the request, or the usual.
func systemPaths(c Container) (masked, readOnly []string) {
	masked, readOnly = c.Host.MaskedPaths, c.Host.ReadonlyPaths
	if masked == nil {
		masked = MaskedPaths()
	}
	if readOnly == nil {
		readOnly = ReadonlyPaths()
	}
	return masked, readOnly
}
