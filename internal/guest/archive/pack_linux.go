// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// whiteout starts the name of a removed path's mark in a layer.
const whiteout = ".wh."

// Write writes a tar of the changes, a layer of OCI: what was deleted is marked
// by a file whose name has a prefix.
func (l *Layer) Write(w io.Writer) error {
	pk := &packer{tw: tar.NewWriter(w), links: map[inode]string{}}
	err := l.walk(func(c change) error {
		dir, base := path.Split(c.path)
		if c.kind == Deleted {
			return pk.tw.WriteHeader(&tar.Header{Name: dir + whiteout + base, Typeflag: tar.TypeReg})
		}
		if strings.HasPrefix(base, whiteout) {
			return fmt.Errorf("/%s: names that start with %s mean deleted files in a layer", c.path, whiteout)
		}
		name := c.path
		if name == "" {
			name = "."
		}
		return pk.addOne(c.entry, name, c.st)
	})
	if err != nil {
		return err
	}
	return pk.tw.Close()
}

// addOne adds an entry without what is in it.
func (pk *packer) addOne(e entry, name string, st unix.Stat_t) error {
	h, err := pk.header(e, name, st)
	if err != nil || h == nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		return pk.addFile(e, h)
	}
	return pk.tw.WriteHeader(h)
}

// ReadAll writes a tar of the whole root to w, its entries named relative to it.
func (r *Root) ReadAll(w io.Writer) error {
	dir, err := r.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	pk := &packer{tw: tar.NewWriter(w), links: map[inode]string{}}
	if err := pk.addEntries(dir, ""); err != nil {
		return err
	}
	return pk.tw.Close()
}
