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
	if !s.guestShare("box", "s0", guestapi.Share_LINK, 1).ReadOnly {
		t.Error("a read-only share is mounted writable")
	}
	s.Fill = true
	if s.guestShare("box", "s0", guestapi.Share_LINK, 1).ReadOnly {
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
