// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
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
	Profile *specs.LinuxSeccomp
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
	case "apparmor", "label", "systempaths":
		if o != "apparmor=unconfined" && o != "systempaths=unconfined" && (name != "label" || value != "disable") {
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

// parseSeccomp takes profiles in the specification's own form.
func parseSeccomp(value string) (*specs.LinuxSeccomp, error) {
	profile := &specs.LinuxSeccomp{}
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(profile); err != nil {
		return nil, invalid("byre does not support this HostConfig.SecurityOpt seccomp profile, give one in the form of the OCI runtime specification: %v", err)
	}
	return profile, nil
}

func withSecurity(s *specs.Spec, c Container) error {
	sec, err := ParseSecurity(c.Host.SecurityOpt)
	if err != nil {
		return err
	}
	s.Process.NoNewPrivileges = sec.NoNewPrivileges
	if c.Host.Privileged {
		s.Linux.Seccomp = sec.Profile // a profile of the request's own holds even then
		return nil
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = c.Host.MaskedPaths, c.Host.ReadonlyPaths
	if s.Linux.MaskedPaths == nil {
		s.Linux.MaskedPaths = MaskedPaths()
	}
	if s.Linux.ReadonlyPaths == nil {
		s.Linux.ReadonlyPaths = ReadonlyPaths()
	}
	switch {
	case sec.Unconfined:
	case sec.Profile != nil:
		s.Linux.Seccomp = sec.Profile
	case c.Seccomp != nil:
		s.Linux.Seccomp = c.Seccomp(s)
	}
	return nil
}
