// SPDX-License-Identifier: Apache-2.0

package shimapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Runtime is the name under which containerd finds the shim's binary,
// containerd-shim-byre-v1.
const Runtime = "io.containerd.byre.v1"

// Annotations of an OCI specification. Their values are JSON. Unknown
// annotations that start with Prefix are refused.
const (
	// Prefix starts the names of all annotations of byre's.
	Prefix = "dev.byre."
	// AnnotationNetwork holds a Network. Without it the machine gets a private
	// switch of its own: NAT, DHCP-free static address, DNS.
	AnnotationNetwork = Prefix + "network"
	// AnnotationMounts holds a map from a mount's destination to a Mount.
	AnnotationMounts = Prefix + "mounts"
	// AnnotationMaxMemory holds a number: the bytes of memory up to which the
	// machine may grow. Without it the bound is the host's memory.
	AnnotationMaxMemory = Prefix + "maxmemory"
	// AnnotationCPUs holds a number: the machine's virtual CPUs.
	AnnotationCPUs = Prefix + "cpus"
	// AnnotationNoEtc holds a boolean: true leaves /etc/hosts, /etc/hostname
	// and /etc/resolv.conf as the image has them. Without it the guest's own
	// are bound over them wherever the specification mounts nothing there.
	AnnotationNoEtc = Prefix + "noetc"
	// AnnotationInit holds a boolean: true puts an init of the guest's before
	// the container's command.
	AnnotationInit = Prefix + "init"
	// AnnotationPID holds a string: the container of the same machine whose
	// processes this one shares.
	AnnotationPID = Prefix + "pid"
	// AnnotationIPC holds a string: the container of the same machine whose IPC
	// namespace and /dev/shm this one shares. With its own name a container lets
	// others share its.
	AnnotationIPC = Prefix + "ipc"
)

// AnnotationGroup is containerd's own: containers with the same value run in one
// sandbox. Without it a container's sandbox has the container's ID as its value.
const AnnotationGroup = "io.containerd.runc.v2.group"

// MaxLinks is how many switches a sandbox can be attached to at a time.
const MaxLinks = 4

// Link is a network card of a sandbox on a switch.
type Link struct {
	// Socket is the Unix socket of the endpoint on a switch; it names the link.
	Socket string `json:"socket"`
	// MAC is the card's address, six bytes in hexadecimal with colons.
	MAC string `json:"mac,omitempty"`
	// Addresses are in CIDR notation.
	Addresses []string `json:"addresses,omitempty"`
	// Gateway is the default gateway; empty for none. One link has it.
	Gateway string `json:"gateway,omitempty"`
	// MTU of the link; 0 means 1500.
	MTU uint32 `json:"mtu,omitempty"`
}

// Network says how a sandbox is connected.
type Network struct {
	// Links are its cards in the order of their names, eth0 first. None means
	// no network but loopback.
	Links []Link `json:"links,omitempty"`
	// Nameservers, Search and Options make /etc/resolv.conf.
	Nameservers []string `json:"nameservers,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
	// Hosts are further lines of /etc/hosts.
	Hosts []Host `json:"hosts,omitempty"`
	// Hostname and Domainname of the machine; the container's own come from
	// its specification and default to these.
	Hostname   string `json:"hostname,omitempty"`
	Domainname string `json:"domainname,omitempty"`
}

// Host is a line of /etc/hosts.
type Host struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

// Mount says about a bind mount what its options cannot.
type Mount struct {
	// Cache is the mode of v9fs: "loose" (the default) or "none".
	Cache string `json:"cache,omitempty"`
	// UID and GID, when both are set, own in the guest what belongs on the
	// host to the user who runs the shim.
	UID *uint32 `json:"uid,omitempty"`
	GID *uint32 `json:"gid,omitempty"`
	// Fill has an empty directory filled with what the image has at its place.
	Fill bool `json:"fill,omitempty"`
	// Disk says that the source is a disk image of byre's: ext4, whose
	// directory "data" is mounted. One machine has it; to others it lends it. The
	// file of that name with ".lock" after it says that one has.
	Disk bool `json:"disk,omitempty"`
	// Socket says that the source is a Unix socket, or on Windows what
	// localsock makes of its path: the guest gets a socket, and each connection
	// to it becomes one of the shim's to the source.
	Socket bool `json:"socket,omitempty"`
	// Layers, where there are any, are ext4 images of an image's layers, top
	// first: their stack is mounted, read-only, in the place of the source.
	Layers []string `json:"layers,omitempty"`
	// Subpath is a path below the source, in the guest's spelling: that is
	// mounted. Links on the way may not lead out of the source.
	Subpath string `json:"subpath,omitempty"`
}

// MaxLayers bounds the layers of a mounted image: overlayfs takes so many.
const MaxLayers = 500

// Settings are the annotations of one specification, decoded.
type Settings struct {
	// Network is nil when there is no such annotation.
	Network   *Network
	Mounts    map[string]Mount
	MaxMemory uint64
	CPUs      int
	NoEtc     bool
	Init      bool
	PID, IPC  string
}

// ParseSettings reads the annotations of a specification. A value that does
// not decode and an unknown name of byre's are errors that name the annotation.
func ParseSettings(annotations map[string]string) (Settings, error) {
	var s Settings
	targets := map[string]any{
		AnnotationNetwork:   &s.Network,
		AnnotationMounts:    &s.Mounts,
		AnnotationMaxMemory: &s.MaxMemory,
		AnnotationCPUs:      &s.CPUs,
		AnnotationNoEtc:     &s.NoEtc,
		AnnotationInit:      &s.Init,
		AnnotationPID:       &s.PID,
		AnnotationIPC:       &s.IPC,
	}
	for name, value := range annotations {
		if len(name) < len(Prefix) || name[:len(Prefix)] != Prefix {
			continue
		}
		target, ok := targets[name]
		if !ok {
			return Settings{}, fmt.Errorf("annotation %s is not known", name)
		}
		if err := json.Unmarshal([]byte(value), target); err != nil {
			return Settings{}, fmt.Errorf("annotation %s: %w", name, err)
		}
	}
	return s, s.check()
}

func (s Settings) check() error {
	for dest, m := range s.Mounts {
		if m.Cache != "" && m.Cache != "loose" && m.Cache != "none" {
			return fmt.Errorf("annotation %s: %s: cache mode %q is neither loose nor none", AnnotationMounts, dest, m.Cache)
		}
		if (m.UID == nil) != (m.GID == nil) {
			return fmt.Errorf("annotation %s: %s: uid and gid go together", AnnotationMounts, dest)
		}
		if err := m.check(); err != nil {
			return fmt.Errorf("annotation %s: %s: %w", AnnotationMounts, dest, err)
		}
	}
	if s.Network != nil {
		if err := s.Network.Check(); err != nil {
			return fmt.Errorf("annotation %s: %w", AnnotationNetwork, err)
		}
	}
	if s.CPUs < 0 {
		return fmt.Errorf("annotation %s: %d is negative", AnnotationCPUs, s.CPUs)
	}
	return nil
}

func (m Mount) check() error {
	if len(m.Layers) > MaxLayers {
		return fmt.Errorf("%d layers, %d are possible", len(m.Layers), MaxLayers)
	}
	if len(m.Layers) > 0 && (m.Disk || m.Socket || m.Fill) {
		return errors.New("layers of an image are no disk, socket or volume")
	}
	if m.Subpath != "" && (m.Socket || !fs.ValidPath(m.Subpath)) {
		return fmt.Errorf("subpath %q is no path below a directory", m.Subpath)
	}
	return nil
}

// Check says what is wrong with the links.
func (n *Network) Check() error {
	if len(n.Links) > MaxLinks {
		return fmt.Errorf("%d links: a machine has %d network cards", len(n.Links), MaxLinks)
	}
	seen, gateways := map[string]bool{}, 0
	for _, l := range n.Links {
		if l.Socket == "" || seen[l.Socket] {
			return fmt.Errorf("link to switch %q: each link needs a socket of its own", l.Socket)
		}
		seen[l.Socket] = true
		if l.Gateway != "" {
			gateways++
		}
	}
	if gateways > 1 {
		return fmt.Errorf("%d links have a default gateway: one may", gateways)
	}
	return nil
}

// Annotate puts a value under an annotation's name, making the map if need be.
func Annotate(annotations map[string]string, name string, value any) (map[string]string, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return annotations, fmt.Errorf("annotation %s: %w", name, err)
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[name] = string(b)
	return annotations, nil
}
