// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !windows

package watch

import (
	"errors"
	"fmt"
	"runtime"
)

// Watcher does not exist here: kqueue tells of single open files, and FSEvents
// is out of reach of a program without cgo.
type Watcher struct{}

func open(path string) (*Watcher, error) { return nil, supported(path) }

func supported(string) error {
	return fmt.Errorf("%s does not tell of changes in trees: %w", runtime.GOOS, errors.ErrUnsupported)
}

func limit() int { return 0 }

// Add fails.
func (w *Watcher) Add(ID, string, Identity) error { return errors.ErrUnsupported }

// Remove does nothing.
func (w *Watcher) Remove(ID) {}

// Next fails.
func (w *Watcher) Next() ([]Event, error) { return nil, ErrClosed }

// Close does nothing.
func (w *Watcher) Close() error { return nil }
