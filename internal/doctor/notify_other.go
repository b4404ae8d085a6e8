// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package doctor

// notifyChecks is empty: this host's notification has no limits to look at.
func notifyChecks() []Check { return nil }
