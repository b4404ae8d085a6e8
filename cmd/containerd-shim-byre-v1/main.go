// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-byre-v1 is containerd's runtime io.containerd.byre.v1:
// containers in utility VMs. containerd starts it; README.md says how to make
// containerd find it.
//
// Environment: BYRE_HOME moves the state that machines share, BYRE_GUEST names
// another guest image, BYRE_QEMU another QEMU, BYRE_ACCEL the acceleration to
// use without probing, BYRE_NO_CLONE=1 makes every machine boot, BYRE_WATCHES
// bounds the inotify watches that a machine takes for its shares: a number, 0 for
// none.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/shim"
)

// version is set by the linker.
var version = "unknown"

func main() {
	dir := stateDir()
	watches, err := watchLimit(os.Getenv("BYRE_WATCHES"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim-byre-v1:", err)
		os.Exit(1)
	}
	cfg := shim.Config{Driver: newDriver(dir), Build: version, Watches: watches}
	if dir != "" {
		cfg.SidecarDir = dir.Path("shares")
	}
	if err := shim.Main(context.Background(), os.Args[1:], cfg, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim-byre-v1:", err)
		os.Exit(1)
	}
}

// watchLimit reads BYRE_WATCHES as shim.Config has it.
func watchLimit(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("BYRE_WATCHES is %q: it must be a number of directories, 0 for none", text)
	}
	if n == 0 {
		return -1, nil
	}
	return int(n), nil
}

// stateDir is byre's home. A containerd that the system started has no HOME:
// then root's state is in the system's place, and others go without, which
// means machines that boot instead of being cloned.
func stateDir() home.Dir {
	dir, err := home.Find(os.Getenv)
	if err != nil && os.Geteuid() == 0 {
		return "/var/lib/byre"
	}
	return dir
}
