// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
)

// catalog finds containers by ID and name.
type catalog struct {
	// mu guards what follows.
	mu    sync.Mutex
	byID  map[string]*Container
	names map[string]string
}

func newCatalog() *catalog {
	return &catalog{byID: map[string]*Container{}, names: map[string]string{}}
}

// reserve takes a name for an ID, all others excluded, until release.
func (r *catalog) reserve(name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner, ok := r.names[name]; ok && owner != id {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf(
			"Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
			"/"+name, owner))
	}
	r.names[name] = id
	return nil
}

func (r *catalog) release(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == id {
		delete(r.names, name)
	}
}

func (r *catalog) add(c *Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[c.id] = c
}

func (r *catalog) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

// all returns the containers, in no order.
func (r *catalog) all() []*Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Container, 0, len(r.byID))
	for _, c := range r.byID {
		list = append(list, c)
	}
	return list
}

// get finds a container by ID, name or the start of its ID.
func (r *catalog) get(ref string) (*Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.byID[ref]; ok {
		return c, nil
	}
	if id, ok := r.names[strings.TrimPrefix(ref, "/")]; ok && r.byID[id] != nil {
		return r.byID[id], nil
	}
	if ref == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("no container name or ID supplied")
	}
	var found []*Container
	for id, c := range r.byID {
		if strings.HasPrefix(id, ref) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	case 1:
		return found[0], nil
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage("multiple IDs found with provided prefix: " + ref)
}

// newID makes an ID: 64 hexadecimal digits, as Docker's.
func newID() string {
	b := make([]byte, 32)
	// Read never fails (crypto/rand).
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// randomName makes a name that users can remember.
func randomName() string {
	adjectives := []string{
		"calm", "bold", "brisk", "bright", "clever", "dapper", "eager", "fair", "gentle", "glad", "happy", "jolly",
		"keen", "kind", "lively", "lucid", "merry", "mild", "neat", "nimble", "noble", "patient", "placid", "proud",
		"quick", "quiet", "serene", "sharp", "shy", "sleek", "steady", "stout", "sunny", "swift", "tidy", "vivid", "warm", "wise",
	}
	breeds := []string{
		"angus", "ankole", "ayrshire", "bazadaise", "brahman", "braford", "charolais", "chianina", "corriente", "devon",
		"dexter", "fleckvieh", "galloway", "gelbvieh", "gloucester", "guernsey", "hereford", "highland", "holstein",
		"jersey", "kerry", "limousin", "longhorn", "lowline", "murray", "nguni", "normande", "pinzgauer", "piedmontese",
		"romagnola", "salers", "shorthorn", "simmental", "sussex", "tarentaise", "wagyu", "watusi", "yak",
	}
	b := make([]byte, 2)
	// Read never fails (crypto/rand).
	_, _ = rand.Read(b)
	return adjectives[int(b[0])%len(adjectives)] + "_" + breeds[int(b[1])%len(breeds)]
}

// nameFor takes the name given, or one that is free, for a container.
func (r *catalog) nameFor(name, id string) (string, error) {
	if name != "" {
		return name, r.reserve(name, id)
	}
	for range 20 {
		name = randomName()
		if r.reserve(name, id) == nil {
			return name, nil
		}
	}
	name += "_" + short(id)
	return name, r.reserve(name, id)
}

// byCreation sorts containers newest first.
func byCreation(list []Record) {
	slices.SortFunc(list, func(a, b Record) int { return b.Created.Compare(a.Created) })
}
