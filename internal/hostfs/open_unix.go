// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"byre.dev/byre/internal/p9/p9srv"
)

// defaultHandles is how many idle handles are kept where the process may open
// enough files.
const defaultHandles = 4096

func (fs *FS) open() error {
	path, err := filepath.EvalSymlinks(fs.cfg.Path)
	if err != nil {
		return cause(err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return cause(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return cause(err)
	}
	dir := path
	if !info.IsDir() {
		dir, fs.file = filepath.Split(path)
		if !info.Mode().IsRegular() {
			return errors.New("neither a directory nor a regular file")
		}
	}
	if err := fs.openDir(dir); err != nil {
		return cause(err)
	}
	if fs.cfg.Mapped {
		fs.side.path = fs.cfg.Sidecar
	}
	fs.sweepIfLarge()
	return nil
}

// openDir takes a handle of the directory whose tree is exported, or that the
// exported file is in.
func (fs *FS) openDir(dir string) error {
	fd, err := openRoot(dir)
	if err != nil {
		return err
	}
	var st stat
	if err := statAt(fd, "", &st); err != nil {
		closeFD(fd)
		return err
	}
	if !st.mode.IsDir() {
		closeFD(fd)
		return syscall.ENOTDIR
	}
	fs.uses = newUses()
	fs.root = &inode{id: st.id, kind: st.mode.Type(), fd: int32(fd), refs: 1}
	fs.inodes = map[fileID]*inode{st.id: fs.root}
	fs.lru.prev, fs.lru.next = &fs.lru, &fs.lru
	fs.handles = 1
	fs.limit = fs.cfg.Handles
	if fs.limit <= 0 {
		fs.limit = handleLimit()
	}
	return nil
}

// handleLimit is a quarter of what the process may open.
func handleLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 256
	}
	return int(max(64, min(uint64(r.Cur)/4, defaultHandles)))
}

// cause strips the path that Open's error names already.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

func (fs *FS) rootNode() p9srv.Node {
	fs.ref(fs.root)
	root := &node{fs: fs, ino: fs.root, mode: fs.root.kind}
	if fs.file == "" {
		return root
	}
	return &fileRoot{dir: root}
}

func (fs *FS) close() error {
	fs.endSweep()
	fs.sweeps.Wait()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil
	}
	fs.closed = true
	for _, i := range fs.inodes {
		fs.dropHandleLocked(i)
	}
	fs.uses.close()
	return fs.side.close()
}
