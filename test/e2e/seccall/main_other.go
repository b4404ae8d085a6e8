// SPDX-License-Identifier: Apache-2.0

//go:build !linux || !amd64

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "seccall: there are such calls on Linux and x86_64 alone")
	os.Exit(1)
}
