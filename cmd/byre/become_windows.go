// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// become runs program, for a process cannot be replaced here. The console's
// signals reach both.
func become(program string, args []string) error {
	cmd := exec.Command(program, args...) //nolint:noctx // it ends by the console's signals
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err == nil || exited {
		return err
	}
	return fmt.Errorf("run %s: %w", program, err)
}
