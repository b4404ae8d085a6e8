// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"byre.dev/byre/internal/sandbox"
)

// inspect looks a bind source up.
func inspect(path string) (sandbox.Source, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return sandbox.Source{}, fmt.Errorf("bind source %s: %w", path, err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return sandbox.Source{}, fmt.Errorf("bind source %s: %w", path, err)
	}
	return sandbox.Source{
		Name: filepath.Base(real),
		Dir:  fi.IsDir(), Regular: fi.Mode().IsRegular(), Kind: kind(fi.Mode()), TmpfsSize: tmpfsSize(path),
	}, nil
}

func kind(m fs.FileMode) string {
	switch m.Type() {
	case fs.ModeDir:
		return "directory"
	case fs.ModeSocket:
		return "socket"
	case fs.ModeNamedPipe:
		return "named pipe"
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		return "device"
	}
	return "special file"
}
