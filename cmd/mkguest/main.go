// SPDX-License-Identifier: Apache-2.0

// Command mkguest puts the guest image together: the initrd with PID 1 and
// runc, the templates of scratch disks, and the manifest by which the host
// verifies them. The same inputs give the same bytes.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// config is the command line.
type config struct {
	initPath, runcPath string
	out                string
	build              string
	scratchSize        int64
	compress           string
}

func main() {
	var c config
	flag.StringVar(&c.initPath, "init", "", "byre-init, static")
	flag.StringVar(&c.runcPath, "runc", "", "runc, static")
	flag.StringVar(&c.out, "out", "bin/guest", "directory of the guest image; vmlinux and bzImage are there already")
	flag.StringVar(&c.build, "build", "devel", "build version for the manifest")
	flag.Int64Var(&c.scratchSize, "scratch-size", 64<<30, "size of the scratch template in bytes")
	flag.StringVar(&c.compress, "compress", "none", "compression of the initrd: none or lz4")
	flag.Parse()
	if flag.NArg() != 0 || c.initPath == "" || c.runcPath == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "mkguest:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	if err := writeInitrd(c, filepath.Join(c.out, "initrd")); err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	if err := writeScratch(c.scratchSize, c.out); err != nil {
		return fmt.Errorf("write scratch templates: %w", err)
	}
	return writeManifest(c.build, c.out)
}
