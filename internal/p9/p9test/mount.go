// SPDX-License-Identifier: Apache-2.0

// Package p9test is the contract of a share as a suite of tests: what a
// container may expect of a directory of the host. It runs over anything that
// is a [Mount]: a served tree through the 9P client, or a directory of the
// system it runs on, which is how it runs inside a guest and on a real ext4.
package p9test

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Mount is a tree to test, with paths relative to its root, "" being the root
// itself. Errors are of type [linux.Errno]. Symbolic links are never
// followed.
type Mount interface {
	// Open opens or creates a file; the flags are open(2)'s.
	Open(path string, flags linux.OpenFlags, mode linux.Mode) (File, error)
	// Mkdir makes a directory.
	Mkdir(path string, mode linux.Mode) error
	// Symlink makes a symbolic link.
	Symlink(target, path string) error
	// Mknod makes a special file.
	Mknod(path string, mode linux.Mode, major, minor uint32) error
	// Link makes newPath another name of oldPath.
	Link(oldPath, newPath string) error
	// Rename moves a file.
	Rename(oldPath, newPath string) error
	// Rename2 is Rename with the flags of renameat2(2).
	Rename2(oldPath, newPath string, flags uint32) error
	// Unlink removes a file that is no directory.
	Unlink(path string) error
	// Rmdir removes a directory.
	Rmdir(path string) error
	// Readlink returns a link's target.
	Readlink(path string) (string, error)
	// Stat returns attributes.
	Stat(path string) (p9.Attr, error)
	// Setattr changes attributes.
	Setattr(path string, s p9.SetAttr) error
	// Readdir lists a directory without "." and "..".
	Readdir(path string) ([]p9.Dirent, error)
	// Statfs tells of the file system.
	Statfs(path string) (p9.Statfs, error)
	// Getxattr returns an attribute's value.
	Getxattr(path, name string) ([]byte, error)
	// Listxattr returns attributes' names.
	Listxattr(path string) ([]string, error)
	// Setxattr sets an attribute.
	Setxattr(path, name string, value []byte, flags uint32) error
	// Removexattr removes one.
	Removexattr(path, name string) error
}

// File is an open file of a Mount.
type File interface {
	// ReadAt reads like pread(2): 0 bytes and no error are the end.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes like pwrite(2).
	WriteAt(p []byte, off int64) (int, error)
	// Stat is fstat(2).
	Stat() (p9.Attr, error)
	// Setattr is ftruncate, fchmod, fchown and futimens.
	Setattr(s p9.SetAttr) error
	// Setxattr is fsetxattr(2).
	Setxattr(name string, value []byte, flags uint32) error
	// Getxattr is fgetxattr(2).
	Getxattr(name string) ([]byte, error)
	// Lock tries to take, or gives up, a byte range for the open file itself, as
	// F_OFD_SETLK does: LockBlocked says that another stands in the way.
	Lock(typ uint8, start, length uint64) (status uint8, err error)
	// Sync is fsync(2), or fdatasync(2).
	Sync(datasync bool) error
	// Close closes the file.
	Close() error
}

// Traits say what a Mount cannot do, so that the suite asks for no more.
type Traits struct {
	// Unprivileged: this process may not give files away nor make devices.
	Unprivileged bool
	// NoNanoseconds: times are set to whole seconds, none before 1970.
	NoNanoseconds bool
	// NoTrusted: trusted and security attributes cannot be set.
	NoTrusted bool
	// NoXattr: there are no extended attributes at all.
	NoXattr bool
	// Slow: every request takes milliseconds, so large directories are a
	// tenth of what they are elsewhere.
	Slow bool
	// NoLinkOwner: the owner of symbolic links cannot be changed.
	NoLinkOwner bool
}
