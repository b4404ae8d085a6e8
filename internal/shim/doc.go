// SPDX-License-Identifier: Apache-2.0

// Package shim is containerd's runtime v2 for utility VMs: what
// containerd-shim-byre-v1 does, one process and one sandbox per shim.
//
// containerd calls the binary three ways. "-info" describes the runtime.
// "start" opens the socket, spawns the shim proper and returns at once; the
// shim claims its machine while containerd is still busy with the mounts, so
// that Create finds it running. "delete" cleans up after a shim that died.
//
// The entry is our own and not containerd's pkg/shim: that one refuses every
// containerd before 2.3, keeps plugins and flags in package variables, and
// reaps children that belong to os/exec.
//
// The shim outlives the daemon: it is a session leader, its FIFOs stay open
// when their other ends close, its log never blocks it, and a task that has
// exited keeps its pid until it is deleted, so that a daemon that comes back
// finds it with its exit code instead of sweeping it up.
//
// Locks: Service.mu guards the table of containers; process.mu the state of one
// process. Neither is held across a call to the guest.
package shim
