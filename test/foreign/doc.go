// SPDX-License-Identifier: Apache-2.0

// Package foreign runs the shim under engines that know nothing of byre: a
// containerd of the test's own, driven by ctr, and a dockerd on it. Each is built
// from a module that only pins it (containerd/go.mod, dockerd/go.mod), not the
// project's own, because no program of it needs all that they need.
package foreign
