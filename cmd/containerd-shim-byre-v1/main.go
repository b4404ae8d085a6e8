// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-byre-v1 is containerd's runtime io.containerd.byre.v1:
// containers in utility VMs. containerd starts it; README.md says how to make
// containerd find it.
//
// Environment: BYRE_HOME moves the state that machines share, BYRE_GUEST names
// another guest image, BYRE_QEMU another QEMU, BYRE_ACCEL the acceleration to
// use without probing, BYRE_NO_CLONE=1 makes every machine boot.
package main

import (
	"context"
	"fmt"
	"os"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/shim"
)

// version is set by the linker.
var version = "unknown"

func main() {
	dir := stateDir()
	cfg := shim.Config{Driver: newDriver(dir), Build: version}
	if dir != "" {
		cfg.SidecarDir = dir.Path("shares")
	}
	if err := shim.Main(context.Background(), os.Args[1:], cfg, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim-byre-v1:", err)
		os.Exit(1)
	}
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
