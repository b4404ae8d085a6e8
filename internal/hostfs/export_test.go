// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

// OpenHandles tells how many handles the cache holds.
func (fs *FS) OpenHandles() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.handles
}
