// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// detached gives the daemon no console, so that the console's signals and its
// end do not reach it.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
