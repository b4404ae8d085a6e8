// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Sizes of what is worked on; bench/load knows the first.
const (
	manyFiles = 10_000
	bigSize   = 64 << 20
	repoDirs  = 50
	repoFiles = 100
)

// makeMany makes a directory of empty files, which are called by numbers.
func makeMany(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range manyFiles {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func makeBig(dir string) error {
	return os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("byre"), bigSize/4), 0o644)
}

// makeRepository makes "repo", a working tree of git with one commit.
func makeRepository(ctx context.Context, dir string) error {
	dir = filepath.Join(dir, "repo")
	for d := range repoDirs {
		sub := filepath.Join(dir, fmt.Sprint("dir", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for f := range repoFiles {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(f)), fmt.Appendln(nil, d, f), 0o644); err != nil {
				return err
			}
		}
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "."},
		{"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all"},
	} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// makeQEMU makes a program that starts QEMU with two devices of virtio-9p.
func (t trees) makeQEMU() error {
	model := "passthrough"
	if os.Geteuid() != 0 {
		model = "mapped-xattr"
	}
	devices := ""
	for _, tag := range []string{"peer", "peernone"} {
		devices += fmt.Sprintf(" -fsdev local,id=%[1]s,path='%[2]s',security_model=%[3]s -device virtio-9p-pci,fsdev=%[1]s,mount_tag=%[1]s", tag, t.path(tag), model)
	}
	return makeQEMU(t.qemu(), devices)
}

// makeQEMU makes a program that the shim starts in QEMU's place: the same with
// further devices where a machine is asked for, run by a command if there is one.
func makeQEMU(name, devices string, by ...string) error {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in *virtio-serial*) set -- \"$@\"%s ;; esac\nexec %s \"$@\"\n", devices, strings.Join(append(by, qemu), " "))
	return os.WriteFile(name, []byte(script), 0o755)
}
