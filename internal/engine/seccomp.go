// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultSeccomp is containerd's default filter, less the ABI x32, which the
// guest's kernel does not have and which would be a third of the filter. The
// guest's runc is built with what this makes for a usual container. Hosts other
// than Linux do not carry the filter: there the machine alone is the boundary.
func defaultSeccomp(s *specs.Spec) *specs.LinuxSeccomp {
	profile := seccomp.DefaultProfile(s)
	if profile == nil || len(profile.Syscalls) == 0 {
		return nil
	}
	profile.Architectures = slices.DeleteFunc(profile.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	return profile
}
