// SPDX-License-Identifier: Apache-2.0

// Package hostfs is a directory or a single file of the host as a tree for
// [p9srv]: what a bind mount shows to a guest.
//
// Nothing outside the exported directory can be reached. Its root is opened
// once; every other file is reached from a handle of its directory by one
// name at a time, never by a path and never through a symbolic link. Names
// and handles from the guest are thus harmless whatever the host or the guest
// renames meanwhile.
//
// An inode stands for a file that the guest knows, under any of its names.
// It has a handle while it is in use and for as long as the cache of handles
// keeps it; without one it is found again by its name in its directory, and
// if another file is there by now that is ESTALE. Files that are open or have
// lost their name keep their handle.
//
// FS.mu guards inodes and the cache. It is never held across a system call
// that touches the file system, close apart.
package hostfs

import (
	"fmt"
	"log/slog"

	"byre.dev/byre/internal/p9/p9srv"
)

// Config describes an export.
type Config struct {
	// Path is the host directory, or file, to export. Symbolic links in it
	// are followed, once, when it is opened.
	Path string
	// ReadOnly refuses every change with EROFS.
	ReadOnly bool
	// Mapped keeps owner, mode, device numbers and privileged attributes in
	// extended attributes of the host's files, for a server that is not root.
	// Otherwise they are the host's own.
	Mapped bool
	// UID and GID own files without stored metadata, where Mapped.
	UID, GID uint32
	// Sidecar is the file that holds, where Mapped, the metadata of files
	// that cannot carry extended attributes: symbolic links and everything
	// on a file system without them. It is made when first needed. Empty
	// means that changing the owner of such a file is refused with
	// EOPNOTSUPP.
	Sidecar string
	// SidecarOnly keeps all metadata in Sidecar, as is done by itself where
	// the file system has no extended attributes.
	SidecarOnly bool
	// LockDir is a directory, of the user's own, in which servers of the same
	// files keep each other's locks apart and tell each other what is open for
	// writing; it must be there. Empty means that servers meet only where they
	// can lock the files themselves.
	LockDir string
	// Handles bounds the handles that are kept open for files not in use; 0
	// means a quarter of what the process may open, at most 4096.
	Handles int
	// Log takes what an operator should know; nil discards.
	Log *slog.Logger
}

// FS is an export. All methods may be called concurrently.
type FS struct {
	cfg Config
	log *slog.Logger
	tree
}

// Open opens the export's root. The error names the path.
func Open(cfg Config) (*FS, error) {
	fs := &FS{cfg: cfg, log: cfg.Log}
	if fs.log == nil {
		fs.log = slog.New(slog.DiscardHandler)
	}
	if err := fs.open(); err != nil {
		return nil, fmt.Errorf("export %s: %w", cfg.Path, err)
	}
	return fs, nil
}

// Root returns the root of the tree: the directory, or for a file a
// directory that can only be read and holds that file alone, looked up anew
// by its name each time. The caller releases it.
func (fs *FS) Root() p9srv.Node { return fs.rootNode() }

// Close closes all handles. No node or file of the tree may be in use.
func (fs *FS) Close() error { return fs.close() }
