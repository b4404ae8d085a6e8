// SPDX-License-Identifier: Apache-2.0

//go:build unix

package stream

import (
	"os"

	"golang.org/x/sys/unix"
)

func makeFIFO(path string) error { return unix.Mkfifo(path, 0o600) }

// openRead opens the reading end without waiting for a writer.
func openRead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// openWrite opens the writing end; there must be a reader.
func openWrite(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
}

// openBoth opens both ends, so that neither waits for the shim.
func openBoth(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
}
