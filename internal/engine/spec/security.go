// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
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
}

// ParseSecurity reads security options. Those of AppArmor and SELinux that turn
// them off are accepted, as the guest has neither; others are refused.
func ParseSecurity(options []string) (Security, error) {
	var s Security
	for _, o := range options {
		name, value, ok := strings.Cut(o, "=")
		if !ok {
			name, value, ok = strings.Cut(o, ":")
		}
		switch {
		case name == "no-new-privileges" && (!ok || value == "true"):
			s.NoNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
			s.NoNewPrivileges = false
		case o == "apparmor=unconfined", o == "label=disable", o == "label:disable", o == "systempaths=unconfined":
		case o == "seccomp=builtin":
		case o == "seccomp=unconfined", o == "seccomp:unconfined":
			s.Unconfined = true
		case name == "seccomp":
			profile, err := parseSeccomp(value)
			if err != nil {
				return s, err
			}
			s.Profile = profile
		default:
			return s, invalid("byre does not support HostConfig.SecurityOpt %q: give no-new-privileges or seccomp; the guest has neither AppArmor nor SELinux", o)
		}
	}
	return s, nil
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
