// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"
	"testing"

	"byre.dev/byre/internal/guestapi"
)

// unmounting is a guest that notes what it is to unmount.
type unmounting struct {
	guestapi.GuestClient
	targets []string
}

func (g *unmounting) Unmount(_ context.Context, r *guestapi.UnmountRequest) (*guestapi.UnmountResponse, error) {
	g.targets = append(g.targets, r.GetTargets()...)
	return &guestapi.UnmountResponse{}, nil
}

func TestTheLastContainersDisksAreWrittenOutUnlessNobodyReadsThem(t *testing.T) {
	for _, c := range []struct {
		name              string
		discarded, shared bool
		written           bool
	}{
		{"kept", false, false, true},
		{"kept, with a volume", false, true, true},
		{"discarded, with a volume", true, true, true},
		{"discarded", true, false, false},
	} {
		guest := &unmounting{}
		s := &Sandbox{setup: make(chan struct{}, 1), link: &link{guest: guest}, containers: map[string]*Container{}}
		s.disks.byKey = map[diskKey]*pluggedDisk{}
		d := &pluggedDisk{key: diskKey{"/scratch", false}, refs: 1, mounted: true}
		s.disks.insert(d)
		box := &Container{id: "a", sandbox: s, disks: []*pluggedDisk{d}, targets: []string{"/root"}, shared: c.shared}
		s.containers["a"] = box
		if err := box.ReleaseLast(t.Context(), c.discarded); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		want := []string{"/root", d.point()}
		if !c.written {
			want = nil
		}
		if !slices.Equal(guest.targets, want) {
			t.Errorf("%s: unmounted %q, want %q", c.name, guest.targets, want)
		}
		// Otherwise the machine would be asked to power off in order, which flushes.
		if s.disks.dirty() || len(s.containers) > 0 {
			t.Errorf("%s: something is left that the end of the machine would wait for", c.name)
		}
	}
}
