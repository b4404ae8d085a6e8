// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// fillMark is there, beside a volume's data, while an image's files are copied
// into it.
const fillMark = ".filling"

// Fill is the right to fill a volume; nobody else fills it meanwhile.
type Fill struct {
	// Needed says that the volume is empty.
	Needed bool
	lock   *sync.Mutex
	path   string
	mark   string
}

// BeginFill waits until nobody fills the volume and looks whether it is empty.
// What a fill that was cut off left counts as nothing, and is removed unless
// used says that somebody works with it. End ends it in any case.
func (m *Manager) BeginFill(v Volume, used bool) (*Fill, error) {
	f := m.fillOf(v)
	f.lock.Lock()
	var err error
	if f.Needed, err = f.prepare(used); err != nil {
		f.lock.Unlock()
		return nil, fmt.Errorf("fill volume %s: %w", v.Name, err)
	}
	return f, nil
}

// Settle is BeginFill for a user who wants no fill: what one that was cut off
// left is removed, lest the next fill takes that user's files for it.
func (m *Manager) Settle(v Volume, used bool) error {
	f := m.fillOf(v)
	f.lock.Lock()
	defer f.lock.Unlock()
	if err := f.settle(used); err != nil {
		return fmt.Errorf("clear volume %s: %w", v.Name, err)
	}
	return nil
}

func (m *Manager) fillOf(v Volume) *Fill {
	m.mu.Lock()
	defer m.mu.Unlock()
	lock := m.filling[v.Name]
	if lock == nil {
		lock = &sync.Mutex{}
		m.filling[v.Name] = lock
	}
	return &Fill{lock: lock, path: v.Path, mark: filepath.Join(m.dir, v.Name, fillMark)}
}

func (f *Fill) settle(used bool) error {
	if _, err := os.Stat(f.mark); err != nil || used {
		return nil
	}
	return f.undo()
}

// undo removes what a fill left, and then its mark.
func (f *Fill) undo() error {
	if err := clearDir(f.path); err != nil {
		return err
	}
	return os.Remove(f.mark)
}

func (f *Fill) prepare(used bool) (needed bool, err error) {
	if err := f.settle(used); err != nil {
		return false, err
	}
	empty, err := isEmpty(f.path)
	if err != nil || !empty {
		return false, err
	}
	return true, os.WriteFile(f.mark, nil, 0o600)
}

// End gives the right back. Of a fill that was not done nothing is left, and the
// next user does it again. The mark outlives the daemon alone.
func (f *Fill) End(done bool) error {
	defer f.lock.Unlock()
	switch {
	case !f.Needed:
		return nil
	case done:
		return os.Remove(f.mark)
	}
	return f.undo()
}

func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

func clearDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, root.RemoveAll(e.Name()))
	}
	return err
}
