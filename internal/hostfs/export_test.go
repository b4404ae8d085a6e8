// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import "context"

// Sweep sweeps the sidecar.
func (fs *FS) Sweep(ctx context.Context) error { return fs.sweep(ctx) }

// OpenHandles tells how many handles the cache holds.
func (fs *FS) OpenHandles() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.handles
}
