// SPDX-License-Identifier: Apache-2.0

// Command bench prints the tables of docs/performance.md: byre's figures beside
// those of its peers, measured in the same run on the same machine. It is no
// test: nothing fails because a machine is slow.
//
// It needs bin/ (make) and a machine with nothing else to do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

// section is one table, or some that belong together. Those that run
// containers need the daemon and its image.
type section struct {
	name       string
	containers bool
	run        func(context.Context, *lab) error
}

var sections = []section{
	{"start", true, benchStart},
	{"memory", true, benchMemory},
	{"api", true, benchAPI},
	{"load", true, benchLoad},
	{"logs", true, benchLogs},
	{"layers", false, benchLayers},
	{"volumes", true, benchVolumes},
	{"files", false, benchFiles}, // its daemon is its own
	{"network", false, benchNetwork},
	{"server", false, benchServer},
	{"fids", false, benchWalk},
}

func main() {
	only := flag.String("run", "", "print only the tables whose names match")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) (err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("read -run: %w", err)
	}
	// A spare machine in the making would be measured as well; the table of
	// starts asks for one.
	if err := os.Setenv("BYRE_SPARES", "0"); err != nil {
		return err
	}
	l, err := newLab()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	fmt.Printf("Host: %s\n", describeHost())
	for _, s := range sections {
		if !match.MatchString(s.name) {
			continue
		}
		if s.containers {
			if err := l.warm(ctx); err != nil {
				return err
			}
		}
		if err := s.run(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// lab is a state directory of its own with a daemon.
type lab struct {
	dir, home, bin string
	// env is what its daemon has beyond the environment.
	env  []string
	once bool
}

func newLab() (*lab, error) {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "byre-bench.")
	if err != nil {
		return nil, err
	}
	return &lab{dir: dir, home: filepath.Join(dir, "home"), bin: bin}, nil
}

// warm loads the busybox image and runs a first container, which makes the
// template that the others are cloned from.
func (l *lab) warm(ctx context.Context) error {
	if l.once {
		return nil
	}
	image := filepath.Join(l.dir, "busybox.tar")
	if out, err := exec.CommandContext(ctx, "build/busybox-image", image).CombinedOutput(); err != nil {
		return fmt.Errorf("make the busybox image: %w: %s", err, out)
	}
	if _, err := l.byre(ctx, "load", "-q", "-i", image); err != nil {
		return err
	}
	_, err := l.byre(ctx, "run", "--rm", "busybox", "true")
	l.once = err == nil
	return err
}

func (l *lab) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "byre"), args...)
	cmd.Env = append(append(os.Environ(), "BYRE_HOME="+l.home), l.env...)
	return cmd
}

// byre runs a command of byre's and returns what it wrote.
func (l *lab) byre(ctx context.Context, args ...string) (string, error) {
	out, err := l.command(ctx, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("byre %v: %w: %s", args, err, exit.Stderr)
	}
	return string(out), err
}

func (l *lab) close() error {
	err := stopDaemon(filepath.Join(l.home, "daemon.pid"))
	return errors.Join(err, os.RemoveAll(l.dir))
}
