// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"

	"github.com/containerd/containerd/v2/core/mount"
)

// stack is what the mounts of a snapshot are made from. Paths are absolute.
type stack struct {
	// scratch is the writable disk; empty for what is read-only.
	scratch string
	// layers are the images, top first. A read-only stack has one at least.
	layers []string
	// staged says that the top layer is the active snapshot's own.
	staged bool
}

// mounts writes a stack down; the package comment has the forms.
func (s stack) mounts() []mount.Mount {
	var mounts []mount.Mount
	if s.scratch != "" {
		mounts = append(mounts, mount.Mount{
			Type: "ext4", Source: s.scratch, Options: []string{"rw", "loop"},
		})
	}
	first := len(mounts)
	for _, l := range s.layers {
		mounts = append(mounts, mount.Mount{
			Type: "ext4", Source: l, Options: []string{"ro", "loop"},
		})
	}
	last := len(mounts) - 1
	switch {
	case s.scratch == "" && len(s.layers) == 1:
		return mounts
	case len(s.layers) == 0:
		return append(mounts, mount.Mount{
			Type: "format/mkdir/bind", Source: "{{ mount 0 }}/upper",
			Options: []string{"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "rw", "rbind"},
		})
	}
	var options []string
	if s.scratch != "" {
		options = append(options,
			"X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
			"X-containerd.mkdir.path={{ mount 0 }}/work:0755",
			"workdir={{ mount 0 }}/work",
			"upperdir={{ mount 0 }}/upper",
		)
	} else if s.staged {
		options = append(options, "ro")
	}
	lower := fmt.Sprintf("lowerdir={{ overlay %d %d }}", first, last)
	if first == last {
		lower = fmt.Sprintf("lowerdir={{ mount %d }}", first)
	}
	return append(mounts, mount.Mount{
		Type: "format/mkdir/overlay", Source: "overlay", Options: append(options, lower),
	})
}
