// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package shim

// lowerPriority does nothing here: a spare machine is made when no container
// starts.
func lowerPriority() (raise func(pid int)) { return func(int) {} }
