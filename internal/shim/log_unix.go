// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// openLog opens the FIFO by which containerd reads a shim's log. It is opened
// for reading too, so that a daemon that is gone is no broken pipe, and without
// blocking: while nobody reads, what is too much is dropped. Standard error
// goes the same way, for what Go says before it dies.
func openLog(bundle string, verbose bool) (*slog.Logger, error) {
	out, err := openLogOutput(bundle)
	if err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})), nil
}

func openLogOutput(bundle string) (io.Writer, error) {
	path := filepath.Join(bundle, "log")
	if err := unix.Mkfifo(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make log: %w", err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	if err := redirectStderr(fd); err != nil {
		return nil, fmt.Errorf("redirect standard error: %w", err)
	}
	return dropWriter(fd), nil
}

// dropWriter writes to a descriptor that does not block and drops what it does
// not take.
type dropWriter int

func (fd dropWriter) Write(b []byte) (int, error) {
	// A log that cannot be written has nobody to be told.
	_, _ = unix.Write(int(fd), b)
	return len(b), nil
}

// keepOnBrokenPipe keeps the process alive when a reader goes away; writers get
// an error instead. It catches the signal and does not ignore it, since
// children inherit what is ignored.
func keepOnBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGHUP)
}
