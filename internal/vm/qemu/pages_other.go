// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package qemu

// smallPages does nothing: other systems have no such pages, or no such switch.
func smallPages() error { return nil }
