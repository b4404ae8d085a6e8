// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"io"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// Owner is to whom a created file belongs: the user of the attach that the
// directory's fid comes from, and the group that the request names.
type Owner struct {
	UID, GID uint32
}

// FileID names a file on the host for the lock table: two nodes with equal
// FileIDs are one file, whichever tree they were reached through.
type FileID struct {
	Volume, File uint64
}

// Node is a file in a tree, one method per request of 9P2000.L. A node is
// what a fid refers to: it stays the same file when its name changes or goes
// away. Embed [Unimplemented] to answer EOPNOTSUPP to what a tree lacks.
//
// All methods may be called concurrently. Names are valid single components:
// the server has refused empty names, ".", "..", and names with a slash or a
// NUL or of more than 255 bytes. Methods marked quick are called on the
// goroutine that reads requests and should not wait for anything slow; the
// others run on workers. Returned nodes and files belong to the server, which
// calls Release or Close once for each.
type Node interface {
	// QID returns the node's QID. Quick.
	QID() p9.QID
	// FileID returns what locks are keyed by. Quick.
	FileID() FileID
	// Clone returns another reference to the same file. Quick.
	Clone() Node
	// Release gives up the reference. Quick.
	Release()

	// Walk returns the file that a directory has under name. Quick.
	Walk(name string) (Node, linux.Errno)
	// Getattr fills a with at least what mask asks for, if it can, and sets
	// a.Valid to what it filled. Quick.
	Getattr(mask uint64, a *p9.Attr) linux.Errno
	// Setattr changes attributes. f is the file that the fid has open, nil if
	// it has none.
	Setattr(s *p9.SetAttr, f File) linux.Errno
	// Statfs tells of the file system the node is on.
	Statfs(s *p9.Statfs) linux.Errno
	// Readlink returns the target of a symbolic link. Quick.
	Readlink() (string, linux.Errno)

	// Open opens the file. Opening directories gives a File for Readdir.
	Open(flags linux.OpenFlags) (File, linux.Errno)
	// Create makes and opens a regular file; without OExcl it opens one that
	// is there, leaving its mode and owner alone.
	Create(name string, flags linux.OpenFlags, mode linux.Mode, o Owner) (Node, File, linux.Errno)
	// Mkdir makes a directory.
	Mkdir(name string, mode linux.Mode, o Owner) (p9.QID, linux.Errno)
	// Symlink makes a symbolic link.
	Symlink(name, target string, o Owner) (p9.QID, linux.Errno)
	// Mknod makes a device, FIFO, socket or regular file, as mode says.
	Mknod(name string, mode linux.Mode, major, minor uint32, o Owner) (p9.QID, linux.Errno)
	// Link gives target, of the same tree, another name in this directory.
	Link(target Node, name string) linux.Errno
	// Tmpfile makes and opens a regular file that has no name until it is
	// linked; this directory says on which file system and with what group.
	Tmpfile(flags linux.OpenFlags, mode linux.Mode, o Owner) (Node, File, linux.Errno)
	// Renameat moves oldName of this directory to newName of newDir, which is
	// of the same tree, replacing what is there. flags are 0,
	// RenameNoreplace, which leaves what is there, or RenameExchange, which
	// gives each file the other's name; a tree that cannot do one of the last
	// answers EINVAL.
	Renameat(oldName string, newDir Node, newName string, flags uint32) linux.Errno
	// Rename moves the file from where it is known to be to name in newDir.
	Rename(newDir Node, name string) linux.Errno
	// Unlinkat removes a name; flags may hold AtRemovedir.
	Unlinkat(name string, flags uint32) linux.Errno
	// Remove removes the name the node is known by.
	Remove() linux.Errno

	// Getxattr returns the value of an extended attribute.
	Getxattr(name string) ([]byte, linux.Errno)
	// Listxattr returns the names of all, each followed by a NUL.
	Listxattr() ([]byte, linux.Errno)
	// Setxattr sets one; flags are those of setxattr(2).
	Setxattr(name string, value []byte, flags uint32) linux.Errno
	// Removexattr removes one.
	Removexattr(name string) linux.Errno
}

// File is an open file. All methods but Close may be called concurrently;
// Close is called once, after every other call has returned.
type File interface {
	// Read reads into p at off; 0 bytes and no error are the end.
	Read(p []byte, off int64) (int, linux.Errno)
	// Write writes p at off, or at the end of a file opened with OAppend.
	Write(p []byte, off int64) (int, linux.Errno)
	// Readdir calls emit for the entries that follow the cookie off, "." and
	// ".." among them, until emit returns false; 0 is the beginning. The entry
	// is only valid during the call.
	Readdir(off uint64, emit func(*p9.Dirent) bool) linux.Errno
	// Allocate does what fallocate(2) does; mode is made of FallocKeepSize,
	// FallocPunchHole and FallocZeroRange, n is greater than 0.
	Allocate(mode uint32, off, n int64) linux.Errno
	// Fsync makes the file's contents durable, and its metadata too unless
	// datasync is set.
	Fsync(datasync bool) linux.Errno
	// Close releases the file.
	Close() linux.Errno
}

// NowaitReader is a File that can tell whether a read would wait.
type NowaitReader interface {
	// ReadNowait is Read, or ok == false if that would wait or fail. Quick.
	ReadNowait(p []byte, off int64) (n int, ok bool)
}

// Shared is a File that can tell whether clients of other servers write the
// file too.
type Shared interface {
	// WrittenElsewhere says whether another server's client had the file open
	// for writing when this was opened. The client is then told not to cache
	// what it reads and writes by this file. Quick.
	WrittenElsewhere() bool
}

// Mappable is a File that can keep clients of other servers from writing it.
type Mappable interface {
	// Mapped says that the client has mapped the file and may write it so, in
	// whole pages. Until Close what clients of other servers change of its
	// contents is ETXTBSY. So is this if one has the file open for writing.
	Mapped() linux.Errno
}

// Streamer is a File that can write its contents to a stream by itself, so
// that they need not be copied into a buffer first.
type Streamer interface {
	// Streamable says how many bytes of a read of n at off are in memory and
	// can be written to w without one: 0 if that is not to be had or would not
	// pay. Quick.
	Streamable(w io.Writer, n int, off int64) int
	// Stream writes n bytes at off to w, for which Streamable has just spoken.
	// What the file has lost meanwhile is written as zeros; an error means
	// that less was written. It waits for w.
	Stream(w io.Writer, n int, off int64) error
}
