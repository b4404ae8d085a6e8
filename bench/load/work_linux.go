// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// work is done in a directory, or with an address, and returns how long each of its steps took.
// What it did before it is measured warmUp times.
type work struct {
	steps  []string
	warmUp int
	do     func(place string) ([]time.Duration, error)
}

var works = map[string]work{
	"stat":   {[]string{"stat"}, 1, statMany},
	"git":    {[]string{"git"}, 1, gitStatus},
	"reread": {[]string{"reread"}, 1, reread},
	"small":  {[]string{"create", "delete"}, 1, small},
	"net":    {[]string{"send", "receive"}, 1, network},
	"stream": {[]string{"write", "read"}, 0, stream},
}

// manyFiles is how many files bench makes in "many"; smallFiles how many are
// made and deleted; streamSize is what is written and read in chunks.
const (
	manyFiles  = 10_000
	smallFiles = 1000
	streamSize = 256 << 20
	chunk      = 1 << 20
)

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// both times two steps.
func both(first, second func() error) ([]time.Duration, error) {
	a, err := timed(first)
	if err != nil {
		return nil, err
	}
	b, err := timed(second)
	return []time.Duration{a, b}, err
}

func one(f func() error) ([]time.Duration, error) {
	d, err := timed(f)
	return []time.Duration{d}, err
}

func names(dir string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = filepath.Join(dir, fmt.Sprint(i))
	}
	return all
}

func statMany(dir string) ([]time.Duration, error) {
	files := names(filepath.Join(dir, "many"), manyFiles)
	return one(func() error {
		var st unix.Stat_t
		for _, f := range files {
			if err := unix.Stat(f, &st); err != nil {
				return err
			}
		}
		return nil
	})
}

func gitStatus(dir string) ([]time.Duration, error) {
	return one(func() error {
		cmd := exec.Command("git", "-c", "safe.directory=*", "-C", filepath.Join(dir, "repo"), "status", "--porcelain")
		out, err := cmd.CombinedOutput()
		if err == nil && len(out) > 0 {
			return fmt.Errorf("git status of a clean tree says %.200q", out)
		}
		return err
	})
}

func reread(dir string) ([]time.Duration, error) {
	return one(func() error { return readAll(filepath.Join(dir, "big"), -1) })
}

func small(dir string) ([]time.Duration, error) {
	dir = filepath.Join(dir, "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.Remove(dir)
	files := names(dir, smallFiles)
	return both(func() error {
		for _, f := range files {
			if err := createSmall(f); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for _, f := range files {
			if err := unix.Unlink(f); err != nil {
				return err
			}
		}
		return nil
	})
}

func createSmall(name string) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("123456789\n")); err != nil {
		unix.Close(fd)
		return err
	}
	return unix.Close(fd)
}

func stream(dir string) ([]time.Duration, error) {
	name := filepath.Join(dir, "stream")
	defer os.Remove(name)
	return both(func() error { return writeAll(name) }, func() error { return readAll(name, streamSize) })
}

func writeAll(name string) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	buf := make([]byte, chunk)
	for done := 0; done < streamSize; {
		n, err := unix.Write(fd, buf)
		if err != nil {
			unix.Close(fd)
			return err
		}
		done += n
	}
	return unix.Close(fd)
}

// readAll reads a file, which has want bytes if that is not negative.
func readAll(name string, want int) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, chunk)
	for got := 0; ; {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		if got += n; n == 0 {
			if want >= 0 && got != want {
				return fmt.Errorf("read %d bytes of %d", got, want)
			}
			return nil
		}
	}
}
