// SPDX-License-Identifier: Apache-2.0

//go:build unix

package usernet

import (
	"syscall"
)

// detached gives a process a session of its own, without a terminal.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
