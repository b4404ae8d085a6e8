// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Command bench prints the tables of docs/performance.md; it measures on Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: measures on Linux hosts only")
	os.Exit(1)
}
