// SPDX-License-Identifier: Apache-2.0

// Package foreign runs the shim under an engine that knows nothing of byre: a
// containerd of the test's own, driven by ctr. Both are built from the module
// that containerd/go.mod pins, which is not the project's own because no program
// of it needs all that they need.
package foreign
