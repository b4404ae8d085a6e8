// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Command peer runs moby's integration suites against byre and against a dockerd
// of their own; it does so on Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "peer: a dockerd runs on Linux hosts only")
	os.Exit(1)
}
