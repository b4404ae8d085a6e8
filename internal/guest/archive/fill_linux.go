// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Fill copies the directory at p of a root into the directory target of the
// guest's, with owners, modes, times, xattrs and links, those of the directory
// itself included. It does nothing, and says so, when target is not empty or p
// leads to no directory. With replace, target is made, and gets the copy by
// rename when it is whole; a copy that a crash cut off is made again.
func (r *Root) Fill(p, target string, replace bool) (filled bool, err error) {
	if empty, err := isEmpty(target); !empty || err != nil {
		return false, err
	}
	src, err := r.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	from := &Root{src}
	defer from.Close()
	if !replace {
		return true, from.copyTo(target)
	}
	stage := target + ".new"
	if err := errors.Join(os.RemoveAll(stage), os.Mkdir(stage, 0o755)); err != nil {
		return false, fmt.Errorf("prepare copy: %w", err)
	}
	if err := from.copyTo(stage); err != nil {
		return false, err
	}
	// os.Rename refuses a target that is a directory, be it empty.
	if err := unix.Rename(stage, target); err != nil {
		return false, &os.LinkError{Op: "rename", Old: stage, New: target, Err: err}
	}
	return true, nil
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return true, nil
	case errors.Is(err, unix.ENOTDIR):
		return false, nil // a file is there
	}
	return false, err
}

// copyTo copies a whole root into a directory.
func (r *Root) copyTo(dir string) error {
	to, err := OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	pr, pw := io.Pipe()
	read := make(chan error, 1)
	go func() { // received below
		err := r.Read(pw, "/.")
		pw.CloseWithError(err)
		read <- err
	}()
	err = to.Write(pr, "/", WriteOptions{CopyUIDGID: true, Top: true})
	pr.CloseWithError(err)
	return errors.Join(err, <-read)
}
