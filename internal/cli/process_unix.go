// SPDX-License-Identifier: Apache-2.0

//go:build unix

package cli

import "syscall"

// detached gives the daemon a session of its own, so that the terminal's
// signals and its end do not reach it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
