// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"byre.dev/byre/internal/guest/initd"
)

// version is the build version, set by the linker.
var version = "devel"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "byre-init is PID 1 of a byre guest and does nothing elsewhere")
		os.Exit(2)
	}
	initd.Main(version)
}
