// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Unimplemented answers EOPNOTSUPP to every request a [Node] may lack. Embed
// it and write QID, FileID, Clone, Release, Walk and Getattr.
type Unimplemented struct{}

// Setattr answers EOPNOTSUPP.
func (Unimplemented) Setattr(*p9.SetAttr, File) linux.Errno { return linux.EOPNOTSUPP }

// Statfs answers EOPNOTSUPP.
func (Unimplemented) Statfs(*p9.Statfs) linux.Errno { return linux.EOPNOTSUPP }

// Readlink answers EINVAL, as for a file that is no link.
func (Unimplemented) Readlink() (string, linux.Errno) { return "", linux.EINVAL }

// Open answers EOPNOTSUPP.
func (Unimplemented) Open(linux.OpenFlags) (File, linux.Errno) { return nil, linux.EOPNOTSUPP }

// Create answers EOPNOTSUPP.
func (Unimplemented) Create(string, linux.OpenFlags, linux.Mode, Owner) (Node, File, linux.Errno) {
	return nil, nil, linux.EOPNOTSUPP
}

// Mkdir answers EOPNOTSUPP.
func (Unimplemented) Mkdir(string, linux.Mode, Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EOPNOTSUPP
}

// Symlink answers EOPNOTSUPP.
func (Unimplemented) Symlink(string, string, Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EOPNOTSUPP
}

// Mknod answers EOPNOTSUPP.
func (Unimplemented) Mknod(string, linux.Mode, uint32, uint32, Owner) (p9.QID, linux.Errno) {
	return p9.QID{}, linux.EOPNOTSUPP
}

// Link answers EOPNOTSUPP.
func (Unimplemented) Link(Node, string) linux.Errno { return linux.EOPNOTSUPP }

// Renameat answers EOPNOTSUPP.
func (Unimplemented) Renameat(string, Node, string, uint32) linux.Errno { return linux.EOPNOTSUPP }

// Tmpfile answers EOPNOTSUPP.
func (Unimplemented) Tmpfile(linux.OpenFlags, linux.Mode, Owner) (Node, File, linux.Errno) {
	return nil, nil, linux.EOPNOTSUPP
}

// Rename answers EOPNOTSUPP.
func (Unimplemented) Rename(Node, string) linux.Errno { return linux.EOPNOTSUPP }

// Unlinkat answers EOPNOTSUPP.
func (Unimplemented) Unlinkat(string, uint32) linux.Errno { return linux.EOPNOTSUPP }

// Remove answers EOPNOTSUPP.
func (Unimplemented) Remove() linux.Errno { return linux.EOPNOTSUPP }

// Getxattr answers EOPNOTSUPP.
func (Unimplemented) Getxattr(string) ([]byte, linux.Errno) { return nil, linux.EOPNOTSUPP }

// Listxattr answers an empty list.
func (Unimplemented) Listxattr() ([]byte, linux.Errno) { return nil, 0 }

// Setxattr answers EOPNOTSUPP.
func (Unimplemented) Setxattr(string, []byte, uint32) linux.Errno { return linux.EOPNOTSUPP }

// Removexattr answers EOPNOTSUPP.
func (Unimplemented) Removexattr(string) linux.Errno { return linux.EOPNOTSUPP }

// UnimplementedFile is [Unimplemented] for a [File].
type UnimplementedFile struct{}

// Read answers EBADF.
func (UnimplementedFile) Read([]byte, int64) (int, linux.Errno) { return 0, linux.EBADF }

// Write answers EBADF.
func (UnimplementedFile) Write([]byte, int64) (int, linux.Errno) { return 0, linux.EBADF }

// Readdir answers ENOTDIR.
func (UnimplementedFile) Readdir(uint64, func(*p9.Dirent) bool) linux.Errno { return linux.ENOTDIR }

// Allocate answers EOPNOTSUPP.
func (UnimplementedFile) Allocate(uint32, int64, int64) linux.Errno { return linux.EOPNOTSUPP }

// Fsync succeeds: there is nothing to make durable.
func (UnimplementedFile) Fsync(bool) linux.Errno { return 0 }

// Close succeeds.
func (UnimplementedFile) Close() linux.Errno { return 0 }
