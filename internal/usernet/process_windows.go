// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// detached gives a process no console, and takes it out of the group that
// Ctrl-C goes to.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		HideWindow:    true,
		CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP,
	}
}

// ownersAlone leaves a socket with the access list of its directory.
func ownersAlone(string) error { return nil }
