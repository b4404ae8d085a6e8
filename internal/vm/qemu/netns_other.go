// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package qemu

// leaveNetwork does nothing: network namespaces are Linux's.
func leaveNetwork() error { return nil }
