// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"runtime"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What docker sends of a file in the form of Docker's own default profile.
const dockerProfile = `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
"syscalls":[
{"names":["read","write"],"action":"SCMP_ACT_ALLOW","comment":"always","args":null,"includes":{},"excludes":{}},
{"name":"openold","action":"SCMP_ACT_ALLOW"},
{"names":["new"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
{"names":["newer"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.30"}},
{"names":["old"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"4.8"}},
{"names":["chroot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_CHROOT"]}},
{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_CHROOT","CAP_BPF"]}},
{"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN","CAP_SYS_CHROOT"]}},
{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
{"names":["arch_prctl"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","arm64"]}},
{"names":["s390_runtime"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390","s390x"]}},
{"names":["foreign"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64","arm64"]}}]}`

func TestProfilesInDockersFormBecomeFilters(t *testing.T) {
	sec, err := ParseSecurity([]string{"seccomp=" + dockerProfile})
	if err != nil {
		t.Fatal(err)
	}
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_CHROOT"}}}}
	f := sec.Profile.filter(s, "6.18.2-byre")
	var names []string
	for _, r := range f.Syscalls {
		names = append(names, r.Names...)
	}
	if want := []string{"read", "write", "openold", "new", "chroot", "clone3", "arch_prctl"}; !slices.Equal(names, want) {
		t.Errorf("rules for %v, want %v", names, want)
	}
	if last := f.Syscalls[4]; last.ErrnoRet == nil || *last.ErrnoRet != 38 {
		t.Errorf("clone3 is answered %+v", last)
	}
	arches := map[string][]specs.Arch{
		"amd64": {specs.ArchX86_64, specs.ArchX86}, "arm64": {specs.ArchAARCH64, specs.ArchARM},
	}[runtime.GOARCH]
	if !slices.Equal(f.Architectures, arches) || f.DefaultAction != specs.ActErrno || f.DefaultErrnoRet == nil {
		t.Errorf("filter of %v, default %s", f.Architectures, f.DefaultAction)
	}
	// What is made of a profile once is made of it again.
	if again := sec.Profile.filter(s, "6.18.2-byre"); len(again.Syscalls) != len(f.Syscalls) || len(again.Architectures) != len(f.Architectures) {
		t.Errorf("the second filter has %d rules, the first %d", len(again.Syscalls), len(f.Syscalls))
	}
}

func TestProfilesOfTheSpecificationStayAsTheyAre(t *testing.T) {
	sec, err := ParseSecurity([]string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"flags":["SECCOMP_FILTER_FLAG_LOG"],
		"syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}`})
	if err != nil {
		t.Fatal(err)
	}
	f := sec.Profile.filter(&specs.Spec{}, "")
	if len(f.Architectures) != 1 || len(f.Flags) != 1 || len(f.Syscalls) != 1 || len(f.Syscalls[0].Args) != 1 {
		t.Errorf("%+v", f)
	}
}

func TestProfilesThatCannotBeRead(t *testing.T) {
	for _, p := range []string{
		"no JSON", `{"defaultAction":"SCMP_ACT_ALLOW","verbose":true}`,
		`{"architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}],"syscalls":[]}`,
		`{"syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}`,
		`{"syscalls":[{"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"four"}}]}`,
		`{"syscalls":[{"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8.1"}}]}`,
	} {
		if _, err := ParseSecurity([]string{"seccomp=" + p}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error %v", p, err)
		}
	}
}

func TestSystemPathsAreUnconfinedWhenAskedTo(t *testing.T) {
	paths := func(options ...string) int {
		s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
		if err := withSecurity(s, Container{Host: &container.HostConfig{SecurityOpt: options}}); err != nil {
			t.Fatal(err)
		}
		return len(s.Linux.MaskedPaths) + len(s.Linux.ReadonlyPaths)
	}
	if n := paths(); n == 0 {
		t.Error("no path is masked")
	}
	if n := paths("systempaths=unconfined"); n != 0 {
		t.Errorf("%d paths are still masked or read-only", n)
	}
	if _, err := ParseSecurity([]string{"systempaths=some"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
}
