// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/linux"
)

// devices keeps what the guest has. A privileged container's list is that of
// all the host's devices, made by the engine and not asked for by name: there
// the host's are left out instead of refused.
func (c *converter) devices() error {
	privileged := isPrivileged(c.spec)
	var kept []specs.LinuxDevice
	for _, d := range c.spec.Linux.Devices {
		char := d.Type == "c" || d.Type == "u"
		switch {
		case d.Type == "p" || char && linux.IsDevice(d.Major, d.Minor):
			kept = append(kept, d)
		case privileged:
			c.drop("linux.devices: %s is the host's", d.Path)
		default:
			return refuse("linux.devices", "%s (%s %d:%d) is a device of the host and cannot be given to a machine", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	c.spec.Linux.Devices = kept
	return nil
}

// isPrivileged tells whether every device is allowed, which engines do for
// privileged containers alone.
func isPrivileged(s *specs.Spec) bool {
	if s.Linux.Resources == nil {
		return false
	}
	for _, r := range s.Linux.Resources.Devices {
		if r.Allow && r.Access == "rwm" && (r.Type == "" || r.Type == "a") && r.Major == nil && r.Minor == nil {
			return true
		}
	}
	return false
}

// cloneSpec copies a specification deeply, by the encoding it travels in.
func cloneSpec(s *specs.Spec) (*specs.Spec, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode specification: %w", err)
	}
	out := &specs.Spec{}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("decode specification: %w", err)
	}
	return out, nil
}
