// SPDX-License-Identifier: Apache-2.0

// Package lockfile takes exclusive locks on files, held by the process and
// given back by the operating system when it dies, however it dies.
package lockfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrHeld says that another process, or another Lock of this one, holds the
// lock.
var ErrHeld = errors.New("lock is held by another process")

// Lock is a lock that is held. Close gives it back.
type Lock struct {
	f *os.File
}

// Try takes the lock on the file at path, which is made when missing, and
// fails at once with ErrHeld when somebody has it.
func Try(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return &Lock{f: f}, nil
}

// Wait takes the lock, waiting for it until ctx ends.
func Wait(ctx context.Context, path string) (*Lock, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := Try(path)
		if err == nil || !errors.Is(err, ErrHeld) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// File is the locked file; its contents are the holder's to use.
func (l *Lock) File() *os.File { return l.f }

// Found tells whether the file is still where others look for it.
func (l *Lock) Found() bool {
	mine, err := l.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.f.Name())
	return err == nil && os.SameFile(mine, there)
}

// Close gives the lock back. The file stays, so that there is never a moment
// in which two processes hold locks on two files of one name.
func (l *Lock) Close() error { return l.f.Close() }
