// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Record is what is known of a container; it is what its file holds.
type Record struct {
	// ID and Name are what it is found by.
	ID, Name string
	// Created is when it was made.
	Created time.Time
	// Config is the request merged with the image's configuration.
	Config *container.Config
	// Host is the request's HostConfig with its defaults filled in.
	Host *container.HostConfig
	// Network is the network that it was created for, whose card is its first.
	Network string
	// Networks are those that it is on, by name, and what was asked for there.
	Networks map[string]*network.EndpointSettings
	// Links are its links to others on the bridge.
	Links []Linked `json:",omitempty"`
	// Image is the ID of its image; Manifest the manifest in use.
	Image    string
	Manifest *ocispec.Descriptor `json:",omitempty"`
	// Mounts are resolved.
	Mounts []Mount `json:",omitempty"`
	// State is what it does.
	State State
	// Restarts counts the restarts by its policy.
	Restarts int
	// Stopped says that a user stopped it: policies heed it.
	Stopped bool `json:",omitempty"`
	// Untouched says that nothing has had its root open yet: it is the image's.
	Untouched bool `json:",omitempty"`
	// Group names the machine of the current run, where it is not the
	// container's own: that of the container whose network it joined, or a new
	// one while others still run in its old one.
	Group string `json:",omitempty"`
	// Connections are those of the current run, by the network's name; they
	// are replaced, never changed.
	Connections map[string]*Attached `json:",omitempty"`
}

// State is what a container does at present.
type State struct {
	Running, Paused, Restarting, Dead, OOMKilled bool
	// Removing is true once removal has begun; RemovingVolumes says that the
	// anonymous volumes go with the container.
	Removing        bool
	RemovingVolumes bool `json:",omitempty"`
	// PID is the first process's, in the guest.
	PID int
	// ExitCode and Error say how the last run ended.
	ExitCode            int
	Error               string
	StartedAt, Finished time.Time
	// Health is nil without a health check.
	Health *container.Health `json:",omitempty"`
}

// Status is Docker's word for the state.
func (s State) Status() container.ContainerState {
	switch {
	case s.Removing:
		return container.StateRemoving
	case s.Dead:
		return container.StateDead
	case s.Restarting:
		return container.StateRestarting
	case s.Paused:
		return container.StatePaused
	case s.Running:
		return container.StateRunning
	case s.StartedAt.IsZero():
		return container.StateCreated
	}
	return container.StateExited
}

// Mount is one resolved mount of a container.
type Mount struct {
	// Type is bind, volume, tmpfs or image.
	Type mount.Type
	// Name is a volume's, or an image's as the user wrote it.
	Name string `json:",omitempty"`
	// Source is a path on the host, or an image's ID; empty for a tmpfs.
	Source string `json:",omitempty"`
	// View numbers the read-only snapshot of an image among the container's.
	View int `json:",omitempty"`
	// Subpath is what is mounted of a volume or image, empty for all of it.
	Subpath string `json:",omitempty"`
	// Destination is the path in the container.
	Destination string
	// Mode is what the user wrote behind the second colon.
	Mode string `json:",omitempty"`
	// ReadOnly and NonRecursive are those of the mount.
	ReadOnly, NonRecursive bool `json:",omitempty"`
	// Options are those of a tmpfs; Plain says that it is one of --tmpfs.
	Options []string `json:",omitempty"`
	Plain   bool     `json:",omitempty"`
	// Disk says of a volume that it is a disk image; NoCopy that it is not filled
	// with what the image has.
	Disk, NoCopy bool `json:",omitempty"`
	// Anonymous volumes go with the container when asked to.
	Anonymous bool `json:",omitempty"`
	// UID and GID, where not nil, own in the container what belongs to the user
	// on the host; GID nil is the number of UID.
	UID, GID *uint32 `json:",omitempty"`
	// Socket says of a bind that it is of the daemon's own socket, whatever name
	// Source has for it.
	Socket bool `json:",omitempty"`
	// Consistent says that the guest caches nothing of the share.
	Consistent bool `json:",omitempty"`
}

// Attached is a container's connection to a network.
type Attached struct {
	// IP, Gateway, Nameserver, Bits, MAC and MTU are the card's; Gateway is
	// zero on an internal network.
	IP, Gateway, Nameserver netip.Addr
	Bits                    int
	MAC                     string
	MTU                     int
	// Socket is the endpoint's on the network's switch.
	Socket string
	// Ports are those published, as they came out; nil where this network does
	// not publish the container's.
	Ports network.PortMap `json:",omitempty"`
}

// clone returns a copy that shares only what never changes.
func (r Record) clone() Record {
	if r.State.Health != nil {
		h := *r.State.Health
		r.State.Health = &h
	}
	return r
}

const recordFile = "container.json"

// writeRecord replaces the file of a container: a kill at any time leaves the
// old one or the new one.
func writeRecord(dir string, r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode container %s: %w", r.ID, err)
	}
	tmp := filepath.Join(dir, "."+recordFile)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("save container %s: %w", r.ID, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, recordFile)); err != nil {
		return fmt.Errorf("save container %s: %w", r.ID, err)
	}
	return nil
}

func readRecord(dir string) (Record, error) {
	var r Record
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read container %s: %w", filepath.Base(dir), err)
	}
	if r.Networks == nil && r.Network != "" {
		if err := r.readOneNetwork(b); err != nil {
			return r, fmt.Errorf("read container %s: %w", filepath.Base(dir), err)
		}
	}
	return r, nil
}

// readOneNetwork takes over a record from when containers were on one network.
func (r *Record) readOneNetwork(b []byte) error {
	var old struct {
		Endpoint *network.EndpointSettings
		Attached *Attached
	}
	if err := json.Unmarshal(b, &old); err != nil {
		return err
	}
	r.Networks = map[string]*network.EndpointSettings{r.Network: old.Endpoint}
	if old.Attached != nil {
		r.Connections = map[string]*Attached{r.Network: old.Attached}
	}
	return nil
}
