// SPDX-License-Identifier: Apache-2.0

//go:build unix

package usernet

import (
	"os"
	"syscall"
)

// detached gives a process a session of its own, without a terminal.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// ownersAlone keeps other accounts from a socket.
func ownersAlone(path string) error { return os.Chmod(path, 0o600) }
