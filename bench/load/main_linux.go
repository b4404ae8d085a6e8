// SPDX-License-Identifier: Apache-2.0

// Command load is the work of bench's tables of files and of the network. It
// runs in a guest, does one kind of work in each directory, or with each
// address, in turn, some times over, and prints the median of each step in
// nanoseconds: "STEP NAME NS". It uses system calls of its own and no other
// process, so that what is measured is the file system or the network.
//
// usage: load WORK ROUNDS NAME=PLACE...
//
//	load mount NAME=DIR OPTIONS
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: load WORK ROUNDS NAME=PLACE")
	}
	if args[0] == "mount" {
		name, dir, _ := strings.Cut(args[1], "=")
		return mount(name, dir, args[2])
	}
	w, ok := works[args[0]]
	if !ok {
		return fmt.Errorf("no work is called %q", args[0])
	}
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return repeat(w, rounds, args[2:])
}

// mount mounts by 9P and looks a name up that is not there.
func mount(name, dir, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(name, dir, "9p", 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", name, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the mount of %s does not work: %w", name, err)
	}
	return nil
}

// repeat does a work in each place in turn, so that what else the host does
// meanwhile falls on all.
func repeat(w work, rounds int, places []string) error {
	took := map[string][]time.Duration{}
	for round := range rounds + w.warmUp {
		for _, place := range places {
			name, where, _ := strings.Cut(place, "=")
			steps, err := w.do(where)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if round < w.warmUp {
				continue
			}
			for i, d := range steps {
				key := w.steps[i] + " " + name
				took[key] = append(took[key], d)
			}
		}
	}
	for key, all := range took {
		slices.Sort(all)
		fmt.Println(key, all[len(all)/2].Nanoseconds())
	}
	return nil
}
