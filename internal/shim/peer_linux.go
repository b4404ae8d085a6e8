// SPDX-License-Identifier: Apache-2.0

package shim

import "github.com/containerd/ttrpc"

// serverOptions let only the shim's own user in.
func serverOptions() []ttrpc.ServerOpt {
	return []ttrpc.ServerOpt{ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser())}
}
