// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/shimapi"
)

func convertWith(s *specs.Spec, settings shimapi.Settings) (Converted, error) {
	return Convert(ConvertInput{ID: "box", Spec: s, Settings: settings, Inspect: sources})
}

func bindOf(source, dest string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind"}, options...)}
}

func TestDiskImagesBecomeVolumesAndNoShares(t *testing.T) {
	in := plain()
	in.Mounts = append(in.Mounts, bindOf("/host/file", "/data", "ro"), bindOf("/host/dir", "/src"))
	c, err := convertWith(in, shimapi.Settings{Mounts: map[string]shimapi.Mount{
		"/data": {Disk: true, Fill: true}, "/src": {Fill: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]VolumeSpec{{Source: "/host/file", Dest: "/data", Fill: true}}, c.Volumes); d != "" {
		t.Error("volumes:", d)
	}
	if len(c.Shares) != 1 || c.Shares[0].Source != "/host/dir" || !c.Shares[0].Fill {
		t.Errorf("shares: %+v", c.Shares)
	}
	at := slices.IndexFunc(c.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/data" })
	if at < 0 || c.Spec.Mounts[at].Source != volumeDir("box", 0) || !slices.Contains(c.Spec.Mounts[at].Options, "ro") {
		t.Errorf("mounts: %+v", c.Spec.Mounts)
	}
}

func TestImagesAndSubpathsBecomePlacesInTheGuest(t *testing.T) {
	in := plain()
	in.Mounts = append(in.Mounts, bindOf("sha256:1", "/img", "ro"), bindOf("/host/dir", "/src"), bindOf("/host/file", "/data"))
	settings := map[string]shimapi.Mount{
		"/img": {Layers: []string{"/l1", "/l0"}, Subpath: "a/b"}, "/src": {Fill: true, Subpath: "c"}, "/data": {Disk: true, Fill: true, Subpath: "d"},
	}
	c, err := convertWith(in, shimapi.Settings{Mounts: settings})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]ImageSpec{{Layers: []string{"/l1", "/l0"}, Dest: "/img"}}, c.Images); d != "" {
		t.Error("images:", d)
	}
	want := []SubpathSpec{
		{Index: 0, Base: imageDir("box", 0), Path: "a/b", Dest: "/img"},
		{Index: 1, Base: shareDir("box", 0), Path: "c", Fill: true, Dest: "/src"},
		{Index: 2, Base: volumeDir("box", 0), Path: "d", Fill: true, Dest: "/data"},
	}
	if d := cmp.Diff(want, c.Subpaths); d != "" {
		t.Error("subpaths:", d)
	}
	if c.Shares[0].Fill || c.Volumes[0].Fill {
		t.Error("the whole is to be filled where a part is mounted")
	}
	for i, dest := range []string{"/img", "/src", "/data"} {
		at := slices.IndexFunc(c.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
		if at < 0 || c.Spec.Mounts[at].Source != subpathDir("box", i) {
			t.Errorf("mounts: %+v, want %s from %s", c.Spec.Mounts, dest, subpathDir("box", i))
		}
	}
	in.Mounts[len(in.Mounts)-3].Options = []string{"rbind", "rw"}
	if _, err := convertWith(in, shimapi.Settings{Mounts: settings}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a writable image: %v", err)
	}
}

func TestDirectoryIsNoDiskImage(t *testing.T) {
	in := plain()
	in.Mounts = append(in.Mounts, bindOf("/host/dir", "/data"))
	_, err := convertWith(in, shimapi.Settings{Mounts: map[string]shimapi.Mount{"/data": {Disk: true}}})
	if err == nil || !strings.Contains(err.Error(), "/host/dir is no disk image") {
		t.Errorf("error %v", err)
	}
}

// A share that is filled is writable to the guest's agent, whatever the
// container may do with it.
func TestShareThatIsFilledIsMountedWritable(t *testing.T) {
	s := ShareSpec{ReadOnly: true, Cache: CacheNone}
	if !s.guestMount("box", nil).ReadOnly {
		t.Error("a read-only share is mounted writable")
	}
	s.Fill = true
	if s.guestMount("box", nil).ReadOnly {
		t.Error("a share to be filled is mounted read-only")
	}
}

func TestInitGoesBeforeTheCommand(t *testing.T) {
	c, err := convertWith(plain(), shimapi.Settings{Init: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/sbin/docker-init", "--", "sh"}, c.Spec.Process.Args); d != "" {
		t.Error("command:", d)
	}
	last := c.Spec.Mounts[len(c.Spec.Mounts)-1]
	if last.Destination != "/sbin/docker-init" || last.Source != guestapi.InitPath || !slices.Contains(last.Options, "ro") {
		t.Errorf("the init's mount: %+v", last)
	}
}
