// SPDX-License-Identifier: Apache-2.0

//go:build unix

package ctrd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// A socket's path may hold 103 bytes on macOS and 107 on Linux. Containerd names
// a shim's socket by a digest, 64 characters, which leaves 38 for its directory.
const maxShimDir = 38

// socketDir makes the directory of the sockets: in State if that is short
// enough, else a private one where the system keeps such things.
func socketDir(root, state string) (sockets, error) {
	dir := filepath.Join(state, "s")
	if len(dir) > maxShimDir {
		dir = shortDir(rootID(root))
	}
	if err := makePrivate(dir); err != nil {
		return sockets{}, fmt.Errorf("socket directory %s: %w", dir, err)
	}
	return sockets{
		grpc:  filepath.Join(dir, "containerd.sock"),
		ttrpc: filepath.Join(dir, "containerd.ttrpc"),
		shims: dir,
	}, nil
}

// shortDir is a directory of this user's that lasts until the machine stops.
func shortDir(id string) string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		if dir = filepath.Join(dir, "byre-"+id); len(dir) <= maxShimDir {
			return dir
		}
	}
	if os.Geteuid() == 0 {
		if st, err := os.Stat("/run"); err == nil && st.IsDir() {
			return "/run/byre-" + id
		}
	}
	return filepath.Join("/tmp", "byre-"+strconv.Itoa(os.Geteuid())+"-"+id)
}

// makePrivate makes a directory that its owner alone may enter. One that is
// there must be such a directory, of ours: in /tmp anybody could have made it.
func makePrivate(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(sys.Uid) != os.Geteuid() {
		return errors.New("is not a directory of this user")
	}
	if st.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// protect narrows the sockets' own modes; the directory has kept others out.
func (s sockets) protect() error {
	return errors.Join(os.Chmod(s.grpc, 0o600), os.Chmod(s.ttrpc, 0o600))
}

// remove removes the sockets and their directory, unless shims have theirs there.
func (s sockets) remove() {
	if s.shims != "" {
		_ = os.Remove(s.grpc)
		_ = os.Remove(s.ttrpc)
		_ = os.Remove(s.shims)
	}
}
