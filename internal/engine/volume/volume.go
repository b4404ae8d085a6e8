// SPDX-License-Identifier: Apache-2.0

// Package volume keeps named volumes: disk images, which machines have and lend
// to each other, or directories of the host that are shared with the machines of
// the containers that mount them.
package volume

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Volume is one volume.
type Volume struct {
	// Name is what it is found by.
	Name string
	// Created is when it was made.
	Created time.Time
	// Labels are the user's.
	Labels map[string]string `json:",omitempty"`
	// Options are the driver's.
	Options map[string]string `json:",omitempty"`
	// Anonymous volumes were made for one container without a name given.
	Anonymous bool `json:",omitempty"`
	// OnDisk is Disk's answer for volumes without options: those of earlier
	// versions are directories.
	OnDisk bool `json:",omitempty"`
	// Path is the directory that is shared, or the disk image.
	Path string `json:"-"`
}

// Disk says that the volume is a disk image, which one machine has at a time and
// lends to the others.
func (v Volume) Disk() bool { return v.OnDisk || v.Options["type"] == "ext4" }

// Manager keeps the volumes of a directory. It is safe for concurrent use.
type Manager struct {
	dir      string
	template string

	// mu guards what follows.
	mu      sync.Mutex
	volumes map[string]*Volume
	// filling has the lock of every volume that was ever to be filled.
	filling map[string]*sync.Mutex
}

const (
	dataDir  = "_data"
	metaFile = "volume.json"
)

// Open reads the volumes of a directory, which is made when it is missing.
// Template is the ext4 image that volumes which are disks are copies of; it need
// not exist before one is made.
func Open(dir, template string) (*Manager, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	m := &Manager{
		dir: dir, template: template,
		volumes: map[string]*Volume{}, filling: map[string]*sync.Mutex{},
	}
	for _, e := range entries {
		v, err := m.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			// A kill came between the directory and its description, at the
			// volume's creation or its removal: nobody knows of it, and what
			// is in it must not come back in the next volume of that name.
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("open volumes: remove what is left of volume %s: %w", e.Name(), err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open volume %s: %w", e.Name(), err)
		}
		m.volumes[v.Name] = v
	}
	return m, nil
}

func (m *Manager) read(name string) (*Volume, error) {
	b, err := os.ReadFile(filepath.Join(m.dir, name, metaFile))
	if err != nil {
		return nil, err
	}
	v := &Volume{}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, err
	}
	v.Name = name
	v.Path = m.path(v)
	return v, nil
}

// namePattern is Docker's rule for names.
const namePattern = `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`

// Create returns the volume of that name, made if it is missing; made says so.
// An empty name makes an anonymous volume.
func (m *Manager) Create(name string, labels, options map[string]string) (v Volume, made bool, err error) {
	if err := checkOptions(options); err != nil {
		return v, false, err
	}
	v = Volume{
		Name: name, Created: time.Now().UTC(), Labels: maps.Clone(labels), Options: maps.Clone(options), OnDisk: len(options) == 0,
	}
	if name == "" {
		v.Name, v.Anonymous = randomName(), true
	} else if ok, err := regexp.MatchString(namePattern, name); !ok || err != nil {
		return v, false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.volumes[v.Name]; ok {
		if len(options) > 0 && !maps.Equal(options, have.Options) {
			return v, false, errdefs.ErrConflict.WithMessage(fmt.Sprintf("volume %s is there with other options: %v", v.Name, have.Options))
		}
		return *have, false, nil
	}
	if err := m.write(&v); err != nil {
		return v, false, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	m.volumes[v.Name] = &v
	return v, true, nil
}

func (m *Manager) write(v *Volume) error {
	dir := filepath.Join(m.dir, v.Name)
	v.Path = m.path(v)
	if err := m.makeData(dir, v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+metaFile)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, metaFile))
}

func randomName() string {
	b := make([]byte, 32)
	// Read never fails (crypto/rand).
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// Get returns a volume by its name.
func (m *Manager) Get(name string) (Volume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.volumes[name]
	if !ok {
		return Volume{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", name))
	}
	return *v, nil
}

// List returns all volumes by name.
func (m *Manager) List() []Volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Volume, 0, len(m.volumes))
	for _, v := range m.volumes {
		list = append(list, *v)
	}
	slices.SortFunc(list, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Remove deletes a volume and what is in it. That nobody uses it is the
// caller's business.
func (m *Manager) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.volumes[name] == nil {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", name))
	}
	dir := filepath.Join(m.dir, name)
	// Without its description a half-deleted directory is no volume.
	if err := os.Remove(filepath.Join(dir, metaFile)); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	delete(m.volumes, name)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}
