// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"fmt"
	"path/filepath"
	"sync"

	"byre.dev/byre/internal/hostlock"
	"byre.dev/byre/internal/linux"
)

// uses tells servers of the same files, in this process and in others, which
// files the clients of each have open for writing, and which of these they have
// mapped for it.
type uses struct {
	writers, mappers marks
}

func newUses() uses {
	return uses{writers: marks{kind: "writers"}, mappers: marks{kind: "mapped"}}
}

// enter notes that a file is being opened and says whether another export has
// it open for writing. Two that come at once both see the other: each is noted
// before it looks.
func (u *uses) enter(lockDir string, i *inode, flags linux.OpenFlags) (elsewhere bool) {
	if lockDir == "" || !i.kind.IsRegular() {
		return false
	}
	if flags.Writes() {
		u.writers.add(lockDir, i.id)
	}
	return u.writers.elsewhere(lockDir, i.id)
}

// mayChange is ETXTBSY for a file that another export has mapped for writing:
// the client there would write old bytes over what is written here.
func (u *uses) mayChange(lockDir string, i *inode) linux.Errno {
	if lockDir != "" && i.kind.IsRegular() && u.mappers.elsewhere(lockDir, i.id) {
		return linux.ETXTBSY
	}
	return 0
}

// leave undoes an enter.
func (u *uses) leave(i *inode, flags linux.OpenFlags) {
	if i.kind.IsRegular() && flags.Writes() {
		u.writers.drop(i.id)
	}
}

// enterMapped notes that a file that is open for writing is mapped as well;
// ETXTBSY if another export has it open for writing, and this one did not map it
// before that.
func (u *uses) enterMapped(lockDir string, i *inode) linux.Errno {
	if lockDir == "" {
		return 0
	}
	first := u.mappers.add(lockDir, i.id)
	if first && u.writers.elsewhere(lockDir, i.id) {
		u.mappers.drop(i.id)
		return linux.ETXTBSY
	}
	return 0
}

// leaveMapped undoes an enterMapped.
func (u *uses) leaveMapped(i *inode) { u.mappers.drop(i.id) }

func (u *uses) close() {
	u.writers.close()
	u.mappers.close()
}

// marks are one kind of use of files. Each file is a byte of a file per volume,
// in Config.LockDir ([hostlock.Of]); whoever uses it has that byte locked for reading, by an
// open file that is the export's own. Two exports thus see each other and not
// themselves, and what a process held is given up with it, however it ends.
type marks struct {
	// kind is the end of the files' names.
	kind string

	mu sync.Mutex
	// volumes and files are guarded by mu.
	volumes map[uint64]*hostlock.File
	// files counts this export's own uses.
	files map[fileID]int
}

// add notes a use and says whether it is the first here. Where the mark cannot
// be had others see none, as on a lone host.
func (m *marks) add(lockDir string, id fileID) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.volumeLocked(lockDir, id.dev)
	if f == nil {
		return false
	}
	first = m.files[id] == 0
	if first {
		at := hostlock.Of(id.ino)
		_ = f.Set(false, at, at)
	}
	m.files[id]++
	return first
}

// drop undoes an add.
func (m *marks) drop(id fileID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[id] == 0 {
		return
	}
	if m.files[id]--; m.files[id] > 0 {
		return
	}
	delete(m.files, id)
	at := hostlock.Of(id.ino)
	_ = m.volumes[id.dev].Clear(at, at)
}

// elsewhere says whether another export uses a file.
func (m *marks) elsewhere(lockDir string, id fileID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.volumeLocked(lockDir, id.dev)
	if f == nil {
		return false
	}
	at := hostlock.Of(id.ino)
	_, found := f.Find(true, at, at)
	return found
}

// volumeLocked returns the file of a volume, nil if there is none. One that
// cannot be had is not asked for again.
func (m *marks) volumeLocked(lockDir string, dev uint64) *hostlock.File {
	f, ok := m.volumes[dev]
	if ok {
		return f
	}
	f, err := hostlock.Open(filepath.Join(lockDir, fmt.Sprintf("%x.%s", dev, m.kind)))
	if err != nil {
		f = nil
	}
	if m.volumes == nil {
		m.volumes, m.files = map[uint64]*hostlock.File{}, map[fileID]int{}
	}
	m.volumes[dev] = f
	return f
}

// close gives up everything.
func (m *marks) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.volumes {
		if f != nil {
			_ = f.Close() // the marks are gone even so
		}
	}
	m.volumes, m.files = nil, nil
}
