// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// confined checks that a path of the host's is absolute, clean and below
// guestapi.RuntimeDir.
func confined(p string) (string, error) {
	if path.Clean(p) != p || !strings.HasPrefix(p, guestapi.RuntimeDir+"/") {
		return "", fmt.Errorf("%q is not a clean path below %s: %w",
			p, guestapi.RuntimeDir, errdefs.ErrInvalidArgument)
	}
	return p, nil
}

// place is an opened path that no rename or symlink can change any more.
type place struct{ fd int }

// path names the place for system calls that take paths.
func (p place) path() string { return "/proc/self/fd/" + strconv.Itoa(p.fd) }

func (p place) close() { unix.Close(p.fd) }

// openPlace opens a confined path without following any symlink.
func openPlace(p string) (place, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, p, &how)
	if err != nil {
		return place{}, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return place{fd}, nil
}

// openBeneath opens a path below a place. Its symlinks are a container's: those
// that lead out of the place are refused, in dockerd's words.
func openBeneath(p place, sub string) (place, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(p.fd, sub, &how)
	switch {
	case errors.Is(err, unix.EXDEV):
		return place{}, fmt.Errorf("path concatenation escapes the base directory, subpath: %s: %w", sub, errdefs.ErrInvalidArgument)
	case err != nil:
		return place{}, fmt.Errorf("cannot access path %s: %w", sub, err)
	}
	return place{fd}, nil
}

// openSource opens a path that another mount of ours provides.
func openSource(p string) (place, error) {
	p, err := confined(p)
	if err != nil {
		return place{}, err
	}
	return openPlace(p)
}

// makeDir makes the directory p and its parents and opens it.
func makeDir(p string) (place, error) {
	if err := makeParents(p); err != nil {
		return place{}, err
	}
	if err := os.Mkdir(p, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return place{}, err
	}
	return openPlace(p)
}

// makeFile makes the empty file p and its parents and opens it.
func makeFile(p string) (place, error) {
	if err := makeParents(p); err != nil {
		return place{}, err
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return place{}, err
	}
	f.Close()
	return openPlace(p)
}

// makeParents makes the directories above p, each one checked not to be a
// symlink before anything is made in it.
func makeParents(p string) error {
	rel := strings.TrimPrefix(path.Dir(p), guestapi.RuntimeDir)
	dir := guestapi.RuntimeDir
	for name := range strings.SplitSeq(strings.TrimPrefix(rel, "/"), "/") {
		if name == "" {
			continue
		}
		dir += "/" + name
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		pl, err := openPlace(dir)
		if err != nil {
			return err
		}
		pl.close()
	}
	return nil
}
