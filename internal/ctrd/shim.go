// SPDX-License-Identifier: Apache-2.0

package ctrd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// findShim puts dir at the front of the PATH, where containerd looks for the
// binaries of runtimes. Empty means the directory of this program. It is no
// error that the binary is missing: that is said when a container is started.
func findShim(dir string) error {
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if self, err = filepath.EvalSymlinks(self); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		dir = filepath.Dir(self)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	path := os.Getenv("PATH")
	if list := filepath.SplitList(path); slices.Index(list, dir) == 0 {
		return nil
	}
	return os.Setenv("PATH", dir+string(os.PathListSeparator)+path)
}
