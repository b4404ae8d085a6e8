// SPDX-License-Identifier: Apache-2.0

// Command peer runs moby's own integration suites, unchanged, against byre and
// against a dockerd of the same module on this machine, each test in a process of
// its own with a bound on its time. What it finds is kept in a file, so that it
// can be interrupted and goes on where it was; docs/peer-results.md is written
// from that file and from reasons.txt, which names why byre differs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

type options struct {
	packages, engines []string
	run               *regexp.Regexp
	again, report     bool
	restore           bool
	budget            time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse()
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	pkgs := flag.String("packages", strings.Join(packages, ","), "suites to run")
	engines := flag.String("engines", "dockerd,byre", "engines to run them against")
	match := flag.String("run", "", "regular expression of the tests to run")
	flag.BoolVar(&o.again, "again", false, "run what has a result already")
	flag.BoolVar(&o.report, "report", false, "run nothing, write docs/peer-results.md alone")
	flag.BoolVar(&o.restore, "restore", false, "first take what the cache has lost of the engines' results from docs/peer-results.md")
	flag.DurationVar(&o.budget, "budget", 0, "stop after this time, to go on another time")
	flag.Parse()
	o.packages, o.engines = strings.Split(*pkgs, ","), strings.Split(*engines, ",")
	var err error
	o.run, err = regexp.Compile(*match)
	return o, err
}

func run(ctx context.Context, o options) error {
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "bin", "guest", "initrd")); err != nil {
		return fmt.Errorf("%w: run make first, and this from the project's directory", err)
	}
	l := &lab{root: root}
	if l.cache, err = cacheDir(); err != nil {
		return err
	}
	if l.results, err = openResults(filepath.Join(l.cache, "results.jsonl")); err != nil {
		return err
	}
	defer l.results.close()
	if o.restore {
		if err := l.restore(o.engines); err != nil {
			return err
		}
	}
	if !o.report {
		err = l.runAll(ctx, o)
	}
	return errors.Join(err, l.writeReport())
}

func cacheDir() (string, error) {
	dir := os.Getenv("BYRE_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(user, "byre")
	}
	dir = filepath.Join(dir, "peer")
	return dir, os.MkdirAll(dir, 0o755)
}

// runAll runs the suites against one engine after the other. It returns nil
// when it is interrupted or its time is up: what is done is kept.
func (l *lab) runAll(ctx context.Context, o options) error {
	if o.budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.budget)
		defer cancel()
	}
	images, err := l.makeImages(ctx)
	if err != nil {
		return err
	}
	for _, name := range o.engines {
		if err := l.runEngine(ctx, o, name, images); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (l *lab) runEngine(ctx context.Context, o options, name string, images []string) (err error) {
	e, err := l.newEngine(ctx, name, images)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	for _, pkg := range o.packages {
		s, err := l.buildSuite(ctx, pkg)
		if err != nil {
			return err
		}
		names, err := s.list(ctx, e)
		if err != nil {
			return err
		}
		for i, test := range names {
			if !o.run.MatchString(test) || !o.again && l.results.has(name, pkg, test) {
				continue
			}
			fmt.Printf("%s: %s %d/%d %s", name, pkg, i+1, len(names), test)
			r, err := s.run(ctx, e, test)
			if err != nil {
				return err
			}
			fmt.Printf(": %s %.1fs\n", r.Outcome[test], r.Seconds)
			if err := l.results.add(r); err != nil {
				return err
			}
			if err := e.recover(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
