// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/engine/volume"
)

// claims counts, for each volume, the containers that are being made and will
// mount it: until they are in the catalog nothing else says that it is used.
type claims struct {
	// mu is held from the look at a volume's users to its removal, and from a
	// volume's making to its claim. It is taken before all others.
	mu sync.Mutex
	of map[string]int
}

// mounting resolves the mounts of one container that is being made. What it
// claims stays until release.
type mounting struct {
	*Engine
	claimed []string
	made    []volume.Volume
}

// volume returns the volume of that name, made if it is missing, and claims it.
func (m *mounting) volume(name string, labels, options map[string]string) (volume.Volume, error) {
	m.claims.mu.Lock()
	defer m.claims.mu.Unlock()
	v, made, err := m.Volumes.Create(name, labels, options)
	if err != nil {
		return v, err
	}
	if made {
		m.made = append(m.made, v)
		m.Events.Publish(events.VolumeEventType, events.ActionCreate, v.Name, map[string]string{"driver": "local"})
	}
	m.claimLocked(v.Name)
	return v, nil
}

// claim claims a volume that another container mounts.
func (m *mounting) claim(name string) error {
	m.claims.mu.Lock()
	defer m.claims.mu.Unlock()
	if _, err := m.Volumes.Get(name); err != nil {
		return err
	}
	m.claimLocked(name)
	return nil
}

func (m *mounting) claimLocked(name string) {
	if m.claims.of == nil {
		m.claims.of = map[string]int{}
	}
	m.claims.of[name]++
	m.claimed = append(m.claimed, name)
}

// release gives up the claims, once the container is in the catalog or will
// never be.
func (m *mounting) release() {
	m.claims.mu.Lock()
	defer m.claims.mu.Unlock()
	for _, name := range m.claimed {
		if m.claims.of[name]--; m.claims.of[name] == 0 {
			delete(m.claims.of, name)
		}
	}
	m.claimed = nil
}

// undo removes the anonymous volumes that were made for a container that will
// never be.
func (m *mounting) undo() {
	m.release()
	for _, v := range m.made {
		if v.Anonymous {
			m.dropVolume(v.Name, "")
		}
	}
}

// removeAnonymous removes the volumes made for a container, unless another
// one uses them.
func (e *Engine) removeAnonymous(r Record) {
	for _, m := range r.Mounts {
		if m.Type == mount.TypeVolume && m.Anonymous {
			e.dropVolume(m.Name, r.ID)
		}
	}
}

// dropVolume removes a volume that no other container than id uses.
func (e *Engine) dropVolume(name, id string) {
	err := e.removeUnused(name, id)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		e.log.Warn("volume not removed", "volume", name, "err", err)
	}
}

// removeUnused removes a volume that no other container than id uses, or is
// about to.
func (e *Engine) removeUnused(name, id string) error {
	e.claims.mu.Lock()
	defer e.claims.mu.Unlock()
	users := slices.DeleteFunc(e.volumeUsers(name), func(user string) bool { return user == id })
	if e.claims.of[name] > 0 {
		users = append(users, "a container that is being created")
	}
	if len(users) > 0 {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("remove %s: volume is in use - [%s]", name, users[0]))
	}
	if err := e.Volumes.Remove(name); err != nil {
		return err
	}
	e.Events.Publish(events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": "local"})
	return nil
}

// RemoveVolume removes a volume that no container mounts.
func (e *Engine) RemoveVolume(name string, force bool) error {
	err := e.removeUnused(name, "")
	if errdefs.IsNotFound(err) && force {
		return nil
	}
	return err
}
