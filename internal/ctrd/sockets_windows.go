// SPDX-License-Identifier: Apache-2.0

package ctrd

// socketDir names pipes, which have no directory. Containerd gives them to
// administrators and the system, and names those of shims itself.
func socketDir(root, _ string) (sockets, error) {
	pipe := `\\.\pipe\byre-` + rootID(root)
	return sockets{grpc: pipe + "-containerd", ttrpc: pipe + "-containerd.ttrpc"}, nil
}

func (s sockets) protect() error { return nil }

func (s sockets) remove() {}
