// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/linux"
)

// writers tells servers of the same files, in this process and in others,
// which files the clients of each have open for writing. Each file is a byte
// of a file per volume, in Config.LockDir; whoever has it open for writing has
// that byte locked for reading, by an open file that is the export's own. Two
// exports thus see each other and not themselves, and what a process held is
// given up with it, however it ends.
type writers struct {
	mu sync.Mutex
	// volumes and open are guarded by mu.
	volumes map[uint64]lockFile
	// open counts this export's own files open for writing.
	open map[fileID]int
}

// enter notes that a file is being opened and says whether another export has
// it open for writing. Two that come at once both see the other: each is
// noted before it looks.
func (w *writers) enter(lockDir string, id fileID, flags linux.OpenFlags) (elsewhere bool) {
	if lockDir == "" {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.volumeLocked(lockDir, id.dev)
	if f.fd < 0 {
		return false
	}
	at := writerByte(id)
	if flags.Writes() {
		if w.open[id] == 0 {
			_ = setRange(f.fd, unix.F_RDLCK, at, at) // without it the others cache, as on a lone host
		}
		w.open[id]++
	}
	_, elsewhere = findRange(f.fd, true, at, at)
	return elsewhere
}

// leave undoes an enter for writing.
func (w *writers) leave(id fileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[id] == 0 {
		return
	}
	if w.open[id]--; w.open[id] > 0 {
		return
	}
	delete(w.open, id)
	at := writerByte(id)
	_ = setRange(w.volumes[id.dev].fd, unix.F_UNLCK, at, at)
}

// volumeLocked returns the file of a volume. One that cannot be had is not
// asked for again.
func (w *writers) volumeLocked(lockDir string, dev uint64) lockFile {
	f, ok := w.volumes[dev]
	if ok {
		return f
	}
	f = openLockFile(filepath.Join(lockDir, fmt.Sprintf("%x.writers", dev)))
	if w.volumes == nil {
		w.volumes, w.open = map[uint64]lockFile{}, map[fileID]int{}
	}
	w.volumes[dev] = f
	return f
}

// close gives up everything.
func (w *writers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.volumes {
		f.close()
	}
	w.volumes, w.open = nil, nil
}

// writerByte is the byte that stands for a file. Numbers beyond what locks
// reach share one with others, which costs them their caches and no more.
func writerByte(id fileID) uint64 { return id.ino % presence }
