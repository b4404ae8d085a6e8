// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"byre.dev/byre/internal/guestapi"
)

func erofs(path string) *types.Mount {
	return &types.Mount{Type: "erofs", Source: path, Options: []string{"ro", "loop"}}
}

// writable is the image that containerd's snapshotters leave to whoever mounts
// it first.
var writable = &types.Mount{Type: "mkfs/ext4", Source: "/s/rwlayer.img", Options: []string{
	"X-containerd.mkfs.fs=ext4", "X-containerd.mkfs.size=67108864", "rw", "loop",
}}

func overlayOf(options ...string) *types.Mount {
	return &types.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: options}
}

func TestRootsOfImagesAreStackedInTheGuest(t *testing.T) {
	points := []string{"/d/0", "/d/1", "/d/2"}
	for _, tt := range []struct {
		name   string
		mounts []*types.Mount
		want   *guestapi.Mount
	}{
		{"one image alone is bound", []*types.Mount{{Type: "ext4", Source: "/a", Options: []string{"loop"}}},
			&guestapi.Mount{Target: "/r", Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: "/d/0"}}}},
		{"a view of one layer is read-only", []*types.Mount{erofs("/a")},
			&guestapi.Mount{Target: "/r", ReadOnly: true, Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: "/d/0"}}}},
		{"an image that takes what is written lies over the layers", []*types.Mount{writable, erofs("/b"), erofs("/a"), overlayOf(
			"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
			"workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ overlay 1 2 }}", "index=off")},
			&guestapi.Mount{Target: "/r", Options: []string{"index=off"}, Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{
				Lower: []string{"/d/1", "/d/2"}, Upper: "/d/0/upper", Work: "/d/0/work"}}}},
		{"a range may run backwards", []*types.Mount{erofs("/a"), erofs("/b"), overlayOf("lowerdir={{ overlay 1 0 }}")},
			&guestapi.Mount{Target: "/r", ReadOnly: true, Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{Lower: []string{"/d/1", "/d/0"}}}}},
		{"a directory of an image is bound", []*types.Mount{writable,
			{Type: "format/mkdir/bind", Source: "{{ mount 0 }}/upper", Options: []string{"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "rw", "rbind"}}},
			&guestapi.Mount{Target: "/r", Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: "/d/0/upper", Recursive: true}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := PlanRoot(tt.mounts)
			if err != nil {
				t.Fatal(err)
			}
			got, err := plan.StackMount("/r", points[:len(plan.Disks)])
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, protocmp.Transform()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestImagesAreAttachedAsTheirMountsSay(t *testing.T) {
	plan, err := PlanRoot([]*types.Mount{writable, erofs("/a"), overlayOf("lowerdir={{ mount 1 }}", "upperdir={{ mount 0 }}/upper", "workdir={{ mount 0 }}/work")})
	if err != nil {
		t.Fatal(err)
	}
	want := []RootDisk{
		{Path: "/s/rwlayer.img", FSType: "ext4", Size: 64 << 20},
		{Path: "/a", FSType: "erofs", ReadOnly: true},
	}
	if d := cmp.Diff(want, plan.Disks); d != "" {
		t.Error(d)
	}
	if plan.HostUpper != "" {
		t.Errorf("the writable layer is an image, not %s", plan.HostUpper)
	}
}

// TestWritableDirectoryOfTheHostIsReplaced has containerd's erofs snapshotter in
// its default on Linux: layers are images, what is written is a directory.
func TestWritableDirectoryOfTheHostIsReplaced(t *testing.T) {
	plan, err := PlanRoot([]*types.Mount{erofs("/a"), overlayOf("workdir=/host/work", "upperdir=/host/fs", "lowerdir={{ mount 0 }}")})
	if err != nil {
		t.Fatal(err)
	}
	if plan.HostUpper != "/host/fs" {
		t.Errorf("writable layer %q, want /host/fs", plan.HostUpper)
	}
	m, err := plan.StackMount("/r", []string{"/d/0"})
	if err != nil {
		t.Fatal(err)
	}
	if o := m.GetOverlay(); o.GetUpper() != "" || o.GetWork() != "" {
		t.Errorf("a path of the host reached the guest: %v", o)
	}
}

func TestDirectoriesOfTheHostAreShared(t *testing.T) {
	for _, m := range []*types.Mount{
		{Type: "bind", Source: "/host/fs", Options: []string{"rbind", "rw"}},
		{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/host/a", "upperdir=/host/u", "workdir=/host/w"}},
	} {
		plan, err := PlanRoot([]*types.Mount{m})
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Host) != 1 || len(plan.Disks) != 0 || plan.Stack != nil {
			t.Errorf("%s: %+v, want a mount of the host", m.Type, plan)
		}
	}
}

func TestRootsThatCannotBeMadeAreRefusedWithTheReason(t *testing.T) {
	for _, tt := range []struct {
		mounts []*types.Mount
		want   string
	}{
		{[]*types.Mount{erofs("/a"), erofs("/b")}, "nothing that stacks them"},
		{[]*types.Mount{overlayOf("lowerdir={{ mount 0 }}")}, "not there"},
		{[]*types.Mount{overlayOf("lowerdir={{ mount 0 }}"), erofs("/a")}, "must be the last"},
		{[]*types.Mount{erofs("/a"), {Type: "bind", Source: "/host"}}, "over disk images"},
		{[]*types.Mount{{Type: "erofs", Source: "/a", Target: "/sub"}}, "target"},
		{[]*types.Mount{{Type: "erofs", Source: "/a", Options: []string{"device=/b"}}}, "max_unmerged_layers"},
		{[]*types.Mount{{Type: "erofs", Source: "/a", Options: []string{"X-containerd.dmverity=/a.dmverity"}}}, "X-containerd.dmverity"},
		{[]*types.Mount{{Type: "mkfs/ext4", Source: "/a", Options: []string{"X-containerd.mkfs.size=-5"}}}, "not a size"},
		{[]*types.Mount{{Type: "mkfs/ext4", Source: "/a", Options: []string{"X-containerd.mkfs.fs=xfs"}}}, "xfs"},
	} {
		if _, err := PlanRoot(tt.mounts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.mounts, err, tt.want)
		}
	}
	for _, tt := range []struct {
		stack *types.Mount
		want  string
	}{
		{overlayOf("lowerdir={{ mount 7 }}"), "no mount 7"},
		{overlayOf("lowerdir={{ mount 0 0 }}"), "arguments"},
		{overlayOf("lowerdir={{ unheard 0 }}"), "not known"},
		{overlayOf("upperdir={{ mount 0 }}/u"), "without lowerdir"},
		{overlayOf("lowerdir={{ mount 0 }}", "X-containerd.mkdir.path={{ mount 0 }}/u:0700"), "mode 0755"},
		{&types.Mount{Type: "format/xfs", Source: "{{ mount 0 }}"}, "stacked by"},
	} {
		plan := RootPlan{Disks: []RootDisk{{Path: "/a"}}, Stack: tt.stack}
		if _, err := plan.StackMount("/r", []string{"/d/0"}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.stack, err, tt.want)
		}
	}
}
