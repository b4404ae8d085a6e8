// SPDX-License-Identifier: Apache-2.0

package hostproc

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// watch runs the command and ends it when the pipe on its last descriptor
// ends, which it does when the parent dies: macOS has no parent-death signal.
const watch = `fd=$1; shift; "$@" & child=$!
(eval "read _ <&$fd"; kill -9 $child 2>/dev/null) & watcher=$!
wait $child; code=$?; kill -9 $watcher 2>/dev/null; exit $code`

func startTied(cmd *exec.Cmd) (func(), error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make parent-death pipe: %w", err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	fd := fmt.Sprint(2 + len(cmd.ExtraFiles))
	cmd.Args = append([]string{"/bin/sh", "-c", watch, "sh", fd, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_ = r.Close()
	if err != nil {
		_ = w.Close()
	}
	return func() { _ = w.Close() }, err
}
