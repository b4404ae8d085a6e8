// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultSeccomp is containerd's default filter. Hosts other than Linux do not
// carry it: there the machine alone is the boundary.
func defaultSeccomp(s *specs.Spec) *specs.LinuxSeccomp {
	profile := seccomp.DefaultProfile(s)
	if profile == nil || len(profile.Syscalls) == 0 {
		return nil
	}
	return profile
}
