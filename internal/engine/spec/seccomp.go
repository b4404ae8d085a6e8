// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Profile is a seccomp filter as Docker's clients send it: that of the OCI
// specification, with architectures that depend on the machine's and rules that
// depend on its kernel and on the container's capabilities.
type Profile struct {
	specs.LinuxSeccomp
	// ArchMap has the architectures of a filter on each machine.
	ArchMap []struct {
		Architecture     specs.Arch
		SubArchitectures []specs.Arch
	} `json:"archMap"`
	// Syscalls take the place of the specification's.
	Syscalls []profileRule `json:"syscalls"`
}

// profileRule is a rule with the conditions under which it is one.
type profileRule struct {
	specs.LinuxSyscall
	// Name is the old form of Names.
	Name string `json:"name"`
	// Comment is for readers.
	Comment  string     `json:"comment"`
	Includes conditions `json:"includes"`
	Excludes conditions `json:"excludes"`
}

// conditions are what a rule depends on.
type conditions struct {
	Caps      []string
	Arches    []string
	MinKernel kernelVersion
}

// kernelVersion is the first two numbers of a kernel's release; the zero value
// is older than any.
type kernelVersion struct{ major, minor uint }

// UnmarshalJSON reads "4.8".
func (v *kernelVersion) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil || s == "" {
		return err
	}
	parsed, ok := parseKernel(s)
	if !ok || strings.Count(s, ".") != 1 {
		return fmt.Errorf("minKernel %q is not of the form 4.8", s)
	}
	*v = parsed
	return nil
}

func parseKernel(release string) (v kernelVersion, ok bool) {
	n, _ := fmt.Sscanf(release, "%d.%d", &v.major, &v.minor)
	return v, n == 2
}

func (v kernelVersion) atLeast(o kernelVersion) bool {
	return v.major > o.major || v.major == o.major && v.minor >= o.minor
}

// parseSeccomp reads a profile. Nothing at all in it means no filter, as in
// dockerd.
func parseSeccomp(value string) (*Profile, error) {
	p := &Profile{}
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, invalid("byre does not support this HostConfig.SecurityOpt seccomp profile, give one in Docker's form or that of the OCI runtime specification: %v", err)
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return nil, invalid("the seccomp profile has both architectures and archMap, give one of them")
	}
	for i, r := range p.Syscalls {
		if r.Name != "" && len(r.Names) > 0 {
			return nil, invalid("a rule of the seccomp profile has both name and names, give one of them: %s", r.Name)
		}
		if r.Name != "" {
			p.Syscalls[i].Names = []string{r.Name}
		}
	}
	return p, nil
}

// filter is the profile on a machine with a kernel of that release, for a
// process with the capabilities of s. A release that is not known is taken for
// the newest.
func (p *Profile) filter(s *specs.Spec, release string) *specs.LinuxSeccomp {
	if p.DefaultAction == "" && len(p.Syscalls) == 0 {
		return nil
	}
	at := place{arch: runtime.GOARCH, kernel: kernelVersion{major: 1 << 16}}
	if v, ok := parseKernel(release); ok {
		at.kernel = v
	}
	if s.Process != nil && s.Process.Capabilities != nil {
		at.caps = s.Process.Capabilities.Bounding
	}
	out := p.LinuxSeccomp
	out.Architectures = slices.Clone(p.Architectures)
	for _, m := range p.ArchMap {
		if m.Architecture == at.seccompArch() {
			out.Architectures = append(append(out.Architectures, m.Architecture), m.SubArchitectures...)
			break
		}
	}
	for _, r := range p.Syscalls {
		if at.has(r) {
			out.Syscalls = append(out.Syscalls, r.LinuxSyscall)
		}
	}
	return &out
}

// place is where a filter is to hold.
type place struct {
	arch   string
	kernel kernelVersion
	caps   []string
}

// seccompArch is the machine's own architecture in the specification's words.
func (at place) seccompArch() specs.Arch {
	return map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[at.arch]
}

// has says whether a rule is one here: what excludes it needs one reason, what
// includes it all of them.
func (at place) has(r profileRule) bool {
	owned := func(c string) bool { return slices.Contains(at.caps, c) }
	missing := func(c string) bool { return !owned(c) }
	switch out, in := r.Excludes, r.Includes; {
	case slices.Contains(out.Arches, at.arch),
		slices.ContainsFunc(out.Caps, owned),
		out.MinKernel != kernelVersion{} && at.kernel.atLeast(out.MinKernel),
		len(in.Arches) > 0 && !slices.Contains(in.Arches, at.arch),
		slices.ContainsFunc(in.Caps, missing),
		!at.kernel.atLeast(in.MinKernel):
		return false
	}
	return true
}
