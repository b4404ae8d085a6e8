// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// leaveNetwork puts the calling thread, which is to fork QEMU, into a network
// namespace with nothing in it. QEMU inherits every connection it has, so it
// needs no network; and an engine that plugs its own into the namespace of a
// container's process, as dockerd does, finds this one there and not the
// host's. An ordinary user may not make namespaces, and then has no such engine.
func leaveNetwork() error {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a network namespace for QEMU: %w", err)
	}
	return nil
}
