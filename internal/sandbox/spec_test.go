// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/shimapi"
)

// plain is what an engine asks for without options.
func plain() *specs.Spec {
	return &specs.Spec{
		Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{Args: []string{"sh"}},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux: &specs.Linux{CgroupsPath: "/of/the/host", Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
			{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace, Path: "/run/netns/x"},
		}},
	}
}

// sources are what the host has.
func sources(path string) (Source, error) {
	switch path {
	case "/host/dir":
		return Source{Dir: true, Kind: "directory"}, nil
	case "/host/file": // a link to a file of another name
		return Source{Regular: true, Name: "target"}, nil
	case "/host/shm":
		return Source{Dir: true, Kind: "directory", TmpfsSize: 64 << 20}, nil
	case "/host/docker.sock":
		return Source{Kind: "socket"}, nil
	}
	return Source{}, errors.New("bind source " + path + ": no such file or directory")
}

func convert(t *testing.T, s *specs.Spec) Converted {
	t.Helper()
	c, err := Convert(ConvertInput{ID: "box", Spec: s, Private: true, Inspect: sources})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlainSpecificationBecomesTheGuests(t *testing.T) {
	in := plain()
	in.Annotations = map[string]string{shimapi.Prefix + "x": "y", "other": "kept"}
	c := convert(t, in)
	if want := guestapi.ContainerDir("box") + "/rootfs"; c.Spec.Root.Path != want {
		t.Errorf("root %s, want %s", c.Spec.Root.Path, want)
	}
	if c.Spec.Linux.CgroupsPath != "/containers/box" {
		t.Errorf("cgroup %s", c.Spec.Linux.CgroupsPath)
	}
	if d := cmp.Diff(map[string]string{"other": "kept"}, c.Spec.Annotations); d != "" {
		t.Error("annotations of ours reach the guest:", d)
	}
	if slices.ContainsFunc(c.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace }) {
		t.Error("the container has a network namespace besides the machine's")
	}
	for _, name := range etcFiles {
		if !slices.ContainsFunc(c.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/etc/"+name }) {
			t.Errorf("/etc/%s is not the machine's", name)
		}
	}
	if d := cmp.Diff(plain().Mounts, in.Mounts); d != "" || in.Linux.CgroupsPath != "/of/the/host" {
		t.Error("Convert changed its input:", d)
	}
	if len(c.Dropped) == 0 || !strings.Contains(strings.Join(c.Dropped, " "), "/run/netns/x") {
		t.Errorf("nothing is said of the namespace left out: %q", c.Dropped)
	}
}

func TestBindsBecomeShares(t *testing.T) {
	s := plain()
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/src", Type: "bind", Source: "/host/dir", Options: []string{"rbind", "rprivate"}},
		specs.Mount{Destination: "/etc/x", Type: "bind", Source: "/host/file", Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/host/shm", Options: []string{"rbind"}},
		specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: "/host/file", Options: []string{"rbind"}},
	)
	c := convert(t, s)
	want := []ShareSpec{
		{Index: 0, Source: "/host/dir", Dest: "/src", Cache: "loose"},
		{Index: 1, Source: "/host/file", Dest: "/etc/x", Cache: "loose", File: true, ReadOnly: true},
	}
	if d := cmp.Diff(want, c.Shares); d != "" {
		t.Error(d)
	}
	found := map[string]specs.Mount{}
	for _, m := range c.Spec.Mounts {
		if strings.HasPrefix(m.Source, "/host") {
			t.Errorf("mount %s: path %s of the host reaches the guest", m.Destination, m.Source)
		}
		found[m.Destination] = m
	}
	if got := found["/etc/x"].Source; got != shareDir("box", 1)+"/target" {
		t.Errorf("the file is bound from %s", got)
	}
	if got := found["/dev/shm"]; got.Type != "tmpfs" || !slices.Contains(got.Options, "size=67108864") {
		t.Errorf("shared memory is %+v, want a tmpfs of the guest's", got)
	}
	if got := found["/etc/resolv.conf"].Source; got != guestapi.RuntimeDir+"/etc/resolv.conf" {
		t.Errorf("the resolver of a private network comes from %s", got)
	}
}

func TestOptionsThatNoMachineHasAreRefusedByName(t *testing.T) {
	bind := func(src string, options ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: options})
		}
	}
	namespace := func(i int, path string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Namespaces[i].Path = path }
	}
	for _, tt := range []struct {
		want   string
		change func(*specs.Spec)
	}{
		{"no such file", bind("/host/gone")},
		{"socket", bind("/host/docker.sock")},
		{"propagate", bind("/host/dir", "rbind", "rshared")},
		{`option "idmap"`, bind("/host/dir", "idmap")},
		{`type "nfs"`, func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/n", Type: "nfs"}) }},
		{"pid namespace /proc/1/ns/pid", namespace(0, "/proc/1/ns/pid")},
		{"pid namespace of the host", func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }},
		{"network namespace /proc/7/ns/net", namespace(4, "/proc/7/ns/net")},
		{"leave the host's network out", func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:4] }},
		{"apparmorProfile", func(s *specs.Spec) { s.Process.ApparmorProfile = "mine" }},
		{"hooks.poststop", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/x"}}} }},
		{"seccomp.listenerPath", func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: "/s"} }},
		{"intelRdt", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }},
		{"/dev/sda", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}}
		}},
		{"not for a Linux container", func(s *specs.Spec) { s.Linux = nil }},
		{"vm:", func(s *specs.Spec) { s.VM = &specs.VM{} }},
	} {
		s := plain()
		tt.change(s)
		_, err := Convert(ConvertInput{ID: "box", Spec: s, Private: true, Inspect: sources})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error that says %q", err, tt.want)
		}
	}
}

func TestSettingsForMountsThatAreNotThereAreRefused(t *testing.T) {
	_, err := Convert(ConvertInput{ID: "box", Spec: plain(), Inspect: sources, Private: true,
		Settings: shimapi.Settings{Mounts: map[string]shimapi.Mount{"/gone": {Cache: "none"}}}})
	if err == nil || !strings.Contains(err.Error(), "/gone") {
		t.Errorf("got %v", err)
	}
}

func TestPrivilegedContainersLoseTheHostsDevicesAlone(t *testing.T) {
	s := plain()
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}, {Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
	s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	c := convert(t, s)
	if len(c.Spec.Linux.Devices) != 1 || c.Spec.Linux.Devices[0].Path != "/dev/fuse" {
		t.Errorf("devices %v, want /dev/fuse alone", c.Spec.Linux.Devices)
	}
}

func TestHostNamesAreMadeOfIDs(t *testing.T) {
	for id, want := range map[string]string{
		"web": "web", "a_b.c": "a-b-c", "-x-": "x", "___": "byre", strings.Repeat("l", 80): strings.Repeat("l", 63),
	} {
		if got := hostnameOf(id); got != want {
			t.Errorf("%q became %q, want %q", id, got, want)
		}
	}
}

func TestWhatTheGuestSaysCannotReachATerminal(t *testing.T) {
	got := escape([]byte("ok\x1b[2J\r\nsecond \"line\"\n"))
	if want := "\t| ok\\x1b[2J\n\t| second \"line\""; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIPCIsSharedWithinTheMachine(t *testing.T) {
	shm := specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=1048576"}}
	with := func(owner string, mounts ...specs.Mount) (Converted, error) {
		s := plain()
		s.Mounts = append(s.Mounts, mounts...)
		return Convert(ConvertInput{ID: "box", Spec: s, Settings: shimapi.Settings{IPC: owner}, Private: true, Inspect: sources})
	}
	at := func(c Converted) (source, ipc string) {
		for _, m := range c.Spec.Mounts {
			if m.Destination == "/dev/shm" {
				source = m.Source
			}
		}
		for _, n := range c.Spec.Linux.Namespaces {
			if n.Type == specs.IPCNamespace {
				ipc = n.Path
			}
		}
		return source, ipc
	}
	for name, test := range map[string]struct {
		owner, source, ipc string
		options            []string
	}{
		"nobody's": {source: "shm"},
		"its own":  {owner: "box", source: guestapi.ContainerDir("box") + "/shm", options: shm.Options},
		"another's": {
			owner: "other", source: guestapi.ContainerDir("other") + "/shm", ipc: guestapi.Namespace("other", "ipc"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := with(test.owner, shm)
			if err != nil {
				t.Fatal(err)
			}
			if source, ipc := at(c); source != test.source || ipc != test.ipc {
				t.Errorf("/dev/shm is %s and the namespace %q, want %s and %q", source, ipc, test.source, test.ipc)
			}
			if d := cmp.Diff(test.options, c.SharedMemory); d != "" {
				t.Errorf("the tmpfs that others share (-want +got):\n%s", d)
			}
		})
	}
	// What a user mounts there stays; others still find a tmpfs to share.
	c, err := with("box", specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/host/dir", Options: []string{"rbind"}})
	if err != nil {
		t.Fatal(err)
	}
	if source, _ := at(c); source != shareDir("box", 0) || len(c.SharedMemory) == 0 {
		t.Errorf("/dev/shm is %s, and %v is there for others", source, c.SharedMemory)
	}
	for _, owner := range []string{"..", "a/b", "/", "."} {
		if _, err := with(owner, shm); err == nil {
			t.Errorf("the IPC of %q is shared", owner)
		}
	}
}
