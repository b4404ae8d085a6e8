// SPDX-License-Identifier: Apache-2.0

package hostproc

import (
	"os/exec"
	"syscall"
)

func startTied(cmd *exec.Cmd) (func(), error) {
	// A process group of its own keeps the terminal's signals away.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return func() {}, cmd.Start()
}
