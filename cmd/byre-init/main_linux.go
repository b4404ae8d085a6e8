// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"byre.dev/byre/internal/guest/initd"
	"byre.dev/byre/internal/guest/initproc"
	"byre.dev/byre/internal/guestapi"
)

// version is the build version, set by the linker.
var version = "devel"

func main() {
	if filepath.Base(os.Args[0]) == guestapi.InitName {
		os.Exit(initproc.Main(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "byre-init is PID 1 of a byre guest and does nothing elsewhere")
		os.Exit(2)
	}
	initd.Main(version)
}
