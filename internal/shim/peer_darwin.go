// SPDX-License-Identifier: Apache-2.0

package shim

import "github.com/containerd/ttrpc"

// serverOptions are none: the socket's directory is its owner's alone, and
// ttrpc asks for a peer's user on Linux only.
func serverOptions() []ttrpc.ServerOpt { return nil }
