// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// guestDevices are character devices whose numbers Linux fixes and that the
// guest's kernel has itself. All others are the host's hardware.
var guestDevices = map[[2]int64]string{
	{1, 3}:    "null",
	{1, 5}:    "zero",
	{1, 7}:    "full",
	{1, 8}:    "random",
	{1, 9}:    "urandom",
	{1, 11}:   "kmsg",
	{5, 0}:    "tty",
	{5, 1}:    "console",
	{5, 2}:    "ptmx",
	{10, 200}: "net/tun",
	{10, 229}: "fuse",
	{10, 237}: "loop-control",
}

// devices keeps what the guest has. A privileged container's list is that of
// all the host's devices, made by the engine and not asked for by name: there
// the host's are left out instead of refused.
func (c *converter) devices() error {
	privileged := isPrivileged(c.spec)
	var kept []specs.LinuxDevice
	for _, d := range c.spec.Linux.Devices {
		char := d.Type == "c" || d.Type == "u"
		_, known := guestDevices[[2]int64{d.Major, d.Minor}]
		switch {
		case d.Type == "p" || (char && known):
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
