// SPDX-License-Identifier: Apache-2.0

// Command byre runs Linux containers, each in a virtual machine of its own. It
// is docker's command line; the daemon behind it ("byre serve") and the
// examination of the host ("byre doctor") are byred's, a program beside it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"byre.dev/byre/internal/cli"
	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/home"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run())
}

func run() int {
	dir, err := home.Find(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "byre:", err)
		return 1
	}
	daemon, err := daemonProgram()
	if err != nil {
		fmt.Fprintln(os.Stderr, "byre: find own program:", err)
		return 1
	}
	return cli.Main(context.Background(), cli.Config{
		Version: version,
		Home:    dir,
		Daemon:  daemon,
		Become:  func(args ...string) error { return become(daemon, args) },
	}, os.Args[1:])
}

// daemonProgram returns the path of byred. A link to byre need not have it
// beside it.
func daemonProgram() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return filepath.Join(filepath.Dir(exe), daemonapi.Program+filepath.Ext(exe)), nil
}
