// SPDX-License-Identifier: Apache-2.0

package spec_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine/spec"
	"byre.dev/byre/internal/shimapi"
)

// update writes the goldens anew.
var update = flag.Bool("update", false, "write the goldens")

func input(change func(*spec.Container)) spec.Container {
	c := spec.Container{
		ID:      "0123456789abcdef",
		Config:  &container.Config{Hostname: "host", Cmd: []string{"true"}},
		Host:    &container.HostConfig{ShmSize: spec.DefaultShmSize},
		Network: shimapi.Network{Hostname: "host"},
	}
	change(&c)
	return c
}

func cases() map[string]spec.Container {
	limit := int64(50)
	umask := uint32(0o27)
	return map[string]spec.Container{
		"plain": input(func(*spec.Container) {}),
		"privileged": input(func(c *spec.Container) {
			c.Host.Privileged = true
			c.Config.Tty = true
			c.Host.ConsoleSize = [2]uint{24, 80}
		}),
		"limits": input(func(c *spec.Container) {
			c.Host.Memory, c.Host.MemorySwap, c.Host.MemoryReservation = 64<<20, 128<<20, 32<<20
			c.Host.NanoCPUs, c.Host.CpusetCpus, c.Host.CPUShares = 1_500_000_000, "0", 512
			c.Host.PidsLimit, c.Host.Umask = &limit, &umask
			c.Host.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}
			c.Host.OomScoreAdj = 10
		}),
		"devices": input(func(c *spec.Container) {
			c.Host.Devices = []container.DeviceMapping{
				{PathOnHost: "/dev/fuse"}, {PathOnHost: "/dev/net/tun", PathInContainer: "/dev/mine", CgroupPermissions: "rw"},
			}
			c.Host.DeviceCgroupRules = []string{"c 7:* rm", "a *:* r"}
			c.Host.IpcMode = container.IPCModeNone
		}),
		"user": input(func(c *spec.Container) {
			c.Config.User, c.Config.WorkingDir = "postgres:staff", "/work"
			c.Config.Entrypoint, c.Config.Env = []string{"/entry"}, []string{"PATH=/bin", "A=b"}
			c.Host.GroupAdd = []string{"7"}
			c.Host.CapAdd, c.Host.CapDrop = []string{"net_admin"}, []string{"ALL"}
			c.Host.SecurityOpt = []string{"no-new-privileges", "seccomp=unconfined"}
			c.Host.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
		}),
		"mounts": input(func(c *spec.Container) {
			c.Host.ReadonlyRootfs = true
			c.Mounts = []spec.Mount{
				{Source: "/host/b", Destination: "/a/b", ReadOnly: true},
				{Source: "/host/a", Destination: "/a", Settings: &shimapi.Mount{Cache: "none"}},
				{Destination: "/run", Options: []string{"size=1m", "exec"}},
				{Destination: "/dev/shm", Options: []string{"size=8m"}},
			}
		}),
	}
}

func TestSpecificationsAreThoseInTestdata(t *testing.T) {
	for name, in := range cases() {
		s, err := spec.Build(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := json.MarshalIndent(s, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhatNoSpecificationCanSayIsRefusedByName(t *testing.T) {
	for want, change := range map[string]func(*spec.Container){
		"no command specified":      func(c *spec.Container) { c.Config.Cmd = nil },
		`unknown capability: "FLY"`: func(c *spec.Container) { c.Host.CapAdd = []string{"FLY"} },
		"no device /dev/sda":        func(c *spec.Container) { c.Host.Devices = []container.DeviceMapping{{PathOnHost: "/dev/sda"}} },
		"rule format: 'all'":        func(c *spec.Container) { c.Host.DeviceCgroupRules = []string{"all"} },
		"HostConfig.SecurityOpt":    func(c *spec.Container) { c.Host.SecurityOpt = []string{"apparmor=mine"} },
	} {
		_, err := spec.Build(input(change))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := spec.TmpfsOptions("size=1m,lowerdir=/x"); err == nil {
		t.Error("an option of another file system was taken for a tmpfs")
	}
}

func TestControlGroupsAreWritableWhereThatIsAskedFor(t *testing.T) {
	for _, tc := range []struct {
		privileged bool
		option     string
		want       string
	}{
		{false, "", "ro"}, {true, "", "rw"},
		{false, "writable-cgroups", "rw"}, {false, "writable-cgroups=1", "rw"}, {false, "writable-cgroups=false", "ro"},
		{true, "writable-cgroups=false", "ro"},
	} {
		s, err := spec.Build(input(func(c *spec.Container) {
			c.Host.Privileged = tc.privileged
			if tc.option != "" {
				c.Host.SecurityOpt = []string{tc.option}
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range s.Mounts {
			if m.Type == "cgroup" && !slices.Contains(m.Options, tc.want) {
				t.Errorf("privileged %v, %q: options %v, want %s", tc.privileged, tc.option, m.Options, tc.want)
			}
		}
	}
	for _, bad := range []string{"writable-cgroups=potato", "writeable-cgroups=true", "nothing"} {
		if _, err := spec.ParseSecurity([]string{bad}); err == nil || !strings.Contains(err.Error(), "invalid --security-opt") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEnvironmentIsMergedInOrder(t *testing.T) {
	got := spec.MergeEnv([]string{"A=1", "B=2", "C=3"}, []string{"B=x", "D=4", "A"})
	if diff := cmp.Diff([]string{"B=x", "C=3", "D=4"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestExecTakesTheContainersProcessAndItsOwnWishes(t *testing.T) {
	in := input(func(c *spec.Container) { c.Config.User, c.Host.GroupAdd = "www", []string{"7"} })
	s, err := spec.Build(in)
	if err != nil {
		t.Fatal(err)
	}
	p := spec.ExecProcess(s, in.Host, spec.Exec{Args: []string{"id"}, Env: []string{"X=y"}, Dir: "/tmp", Terminal: true, Size: [2]uint{5, 6}})
	if p.User.Username != "www" || len(p.User.AdditionalGids) != 1 || p.Cwd != "/tmp" || p.ConsoleSize.Width != 6 {
		t.Errorf("process %+v", p)
	}
	other := spec.ExecProcess(s, in.Host, spec.Exec{Args: []string{"id"}, User: "nobody", Privileged: true})
	if other.User.Username != "nobody" || other.User.AdditionalGids != nil || len(other.Capabilities.Effective) < 40 {
		t.Errorf("process of another user %+v", other)
	}
	if len(s.Process.Capabilities.Effective) != 14 || s.Process.Args[0] != "true" {
		t.Error("the container's own process was changed")
	}
}
