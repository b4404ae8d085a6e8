// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/shimapi"
)

// Source is what Convert must know about a bind mount's source on the host.
type Source struct {
	// Dir and Regular say what it is; a source that is neither is refused.
	Dir, Regular bool
	// TmpfsSize is the size in bytes of the tmpfs that the source is on, 0 when
	// it is on something else.
	TmpfsSize uint64
	// Name is the name of a regular file in its directory, behind symbolic
	// links: the source itself may be a link of another name.
	Name string
	// Kind names what is neither directory nor regular file: "socket".
	Kind string
}

// ConvertInput is what Convert works on.
type ConvertInput struct {
	// ID is the container's.
	ID string
	// Spec is the host's specification; Convert does not change it.
	Spec *specs.Spec
	// Settings are the decoded annotations of Spec.
	Settings shimapi.Settings
	// Private is true when the machine has a switch of its own, made by the
	// shim: resolver files bound from the host describe another network.
	Private bool
	// Inspect looks a bind source up on the host.
	Inspect func(path string) (Source, error)
}

// Converted is a specification for the guest and what it needs from the host.
type Converted struct {
	Spec *specs.Spec
	// Shares are the host directories and files that the guest's mounts refer
	// to, in the order of the mounts.
	Shares []ShareSpec
	// Volumes are disk images that the guest's mounts refer to, in the order of
	// the mounts.
	Volumes []VolumeSpec
	// Images are images that the guest's mounts refer to, in the order of the
	// mounts.
	Images []ImageSpec
	// Subpaths are places below shares, volumes and images that the guest's
	// mounts refer to, in the order of the mounts.
	Subpaths []SubpathSpec
	// Sockets are sockets of the host that the guest's mounts refer to, in the
	// order of the mounts.
	Sockets []SocketSpec
	// SharedMemory are the options of a tmpfs which is the container's /dev/shm and
	// that of others of the machine that share it; nil if none does.
	SharedMemory []string
	// Dropped says what of the host's specification has no counterpart in the
	// guest and why it may be left out, one sentence each.
	Dropped []string
}

// ShareSpec is a host path to be offered to the guest.
type ShareSpec struct {
	// Index numbers the container's shares from 0.
	Index int
	// Source is the host path; Dest the mount's place in the container.
	Source, Dest string
	// File is true for a single file.
	File     bool
	ReadOnly bool
	// Cache is v9fs' cache mode: CacheNone, or anything else for CacheLoose
	// where the host can tell the guest of changes and CacheNone elsewhere.
	Cache string
	// Static says that nobody changes what is shared: it is cached, and no
	// changes are told.
	Static bool
	// Fill has the directory filled, when it is empty, with what the image has
	// at Dest.
	Fill bool
	// UID and GID, when not nil, own in the guest what is the user's.
	UID, GID *uint32
	// User and Group are the numbers of whom the container's process is to
	// run as: without UID they own what is the user's, where the user is not
	// root. They are 0 where UserName, as Docker writes one, is to be looked
	// up in the image first.
	User, Group uint32
	UserName    string
}

// VolumeSpec is a disk image that is mounted into a container.
type VolumeSpec struct {
	// Index numbers the container's volumes from 0.
	Index int
	// Source is the image; Dest the mount's place in the container.
	Source, Dest string
	// Fill has an empty image filled with what the container's has at Dest.
	Fill bool
}

// volumeDir is where a container's volume is mounted in the guest.
func volumeDir(id string, index int) string {
	return fmt.Sprintf("%s/volumes/%d", guestapi.ContainerDir(id), index)
}

// Cache modes of v9fs. With CacheLoose the guest holds names, attributes and
// contents and is told of what others change; with CacheNone it asks each time.
const (
	CacheLoose = "loose"
	CacheNone  = "none"
)

// shareDir is where a container's share is mounted in the guest.
func shareDir(id string, index int) string {
	return fmt.Sprintf("%s/shares/%d", guestapi.ContainerDir(id), index)
}

// Convert makes the guest's specification from the host's. An option that can
// be neither honoured nor safely left out is an error that names it.
func Convert(in ConvertInput) (Converted, error) {
	c := &converter{in: in}
	steps := []func() error{
		c.root, c.process, c.namespaces, c.hooks, c.linux, c.devices, c.mounts, c.sharedMemory, c.etc, c.init,
	}
	spec, err := cloneSpec(in.Spec)
	if err != nil {
		return Converted{}, err
	}
	if err := checkPlatform(spec); err != nil {
		return Converted{}, err
	}
	c.spec = spec
	for _, step := range steps {
		if err := step(); err != nil {
			return Converted{}, err
		}
	}
	c.out.Spec = spec
	return c.out, nil
}

type converter struct {
	in   ConvertInput
	spec *specs.Spec
	out  Converted
}

func (c *converter) drop(format string, args ...any) {
	c.out.Dropped = append(c.out.Dropped, fmt.Sprintf(format, args...))
}

func refuse(option, why string, args ...any) error {
	return fmt.Errorf("%s: %s", option, fmt.Sprintf(why, args...))
}

func checkPlatform(s *specs.Spec) error {
	switch {
	case s.Linux == nil || s.Process == nil:
		return refuse("specification", "it is not for a Linux container")
	case s.Solaris != nil:
		return refuse("solaris", "the guest is Linux")
	case s.VM != nil:
		return refuse("vm", "the machine is the runtime's own")
	case s.ZOS != nil:
		return refuse("zos", "the guest is Linux")
	case s.FreeBSD != nil:
		return refuse("freebsd", "the guest is Linux")
	}
	return nil
}

func (c *converter) root() error {
	if c.spec.Windows != nil {
		c.spec.Windows = nil
		c.drop("windows: layer folders of the host, the guest has disks")
	}
	readOnly := c.spec.Root != nil && c.spec.Root.Readonly
	c.spec.Root = &specs.Root{Path: guestapi.ContainerDir(c.in.ID) + "/rootfs", Readonly: readOnly}
	maps.DeleteFunc(c.spec.Annotations, func(name, _ string) bool {
		return strings.HasPrefix(name, shimapi.Prefix)
	})
	if n := c.in.Settings.Network; n != nil {
		if c.spec.Hostname == "" {
			c.spec.Hostname = n.Hostname
		}
		if c.spec.Domainname == "" {
			c.spec.Domainname = n.Domainname
		}
	}
	return nil
}

// defaultProfiles are what engines set on hosts with AppArmor without being
// asked to.
var defaultProfiles = []string{
	"", "unconfined", "docker-default", "nerdctl-default", "cri-containerd.apparmor.d", "containers-default",
}

func (c *converter) process() error {
	dropped, err := ConvertProcess(c.spec.Process)
	if err != nil {
		return err
	}
	c.out.Dropped = append(c.out.Dropped, dropped...)
	return nil
}

// ConvertProcess does for a process, a container's first or an exec's, what
// Convert does for a specification: it changes p and says what was left out.
func ConvertProcess(p *specs.Process) (dropped []string, err error) {
	if !slices.Contains(defaultProfiles, strings.TrimSuffix(p.ApparmorProfile, " (enforce)")) {
		return nil, refuse("process.apparmorProfile", "the guest has no AppArmor to enforce profile %q", p.ApparmorProfile)
	}
	if p.ApparmorProfile != "" {
		dropped = append(dropped, fmt.Sprintf("process.apparmorProfile: default profile %q of the host, the machine isolates", p.ApparmorProfile))
		p.ApparmorProfile = ""
	}
	if p.SelinuxLabel != "" {
		dropped = append(dropped, fmt.Sprintf("process.selinuxLabel: label %q is of the host's policy", p.SelinuxLabel))
		p.SelinuxLabel = ""
	}
	return dropped, nil
}

// processNamespace are namespaces that engines name for containers that join
// another's network. Those made for a container itself have a name of their own.
var processNamespace = regexp.MustCompile(`^/proc/[0-9]+/`)

// namespaces leaves out the network namespace, since the container uses the
// machine's, and refuses namespaces of the host. Processes and IPC may be those of
// another container of the machine.
func (c *converter) namespaces() error {
	have := map[specs.LinuxNamespaceType]bool{}
	var kept []specs.LinuxNamespace
	for _, ns := range c.spec.Linux.Namespaces {
		have[ns.Type] = true
		if ns.Type == specs.NetworkNamespace {
			if processNamespace.MatchString(ns.Path) {
				return refuse("linux.namespaces", "network namespace %s is another process's: a machine cannot join it", ns.Path)
			}
			if ns.Path != "" {
				c.drop("linux.namespaces: network namespace %s is of the host, the machine has a network of its own", ns.Path)
			}
			continue
		}
		if ns.Path != "" {
			return refuse("linux.namespaces", "%s namespace %s is of the host and cannot be joined from a machine", ns.Type, ns.Path)
		}
		if other := c.shares(ns.Type); other != "" {
			ns.Path = guestapi.Namespace(other, string(ns.Type))
		}
		kept = append(kept, ns)
	}
	for _, t := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace} {
		if !have[t] {
			return refuse("linux.namespaces", "the %s namespace of the host cannot be shared with a machine", t)
		}
	}
	if !have[specs.NetworkNamespace] && c.in.Settings.Network == nil {
		return refuse("linux.namespaces", "the network namespace of the host cannot be shared with a machine; leave the host's network out and the machine gets one of its own")
	}
	c.spec.Linux.Namespaces = kept
	return nil
}

// shares returns the container of the machine whose namespace of a type is this
// one's, "" if it has its own.
func (c *converter) shares(kind specs.LinuxNamespaceType) string {
	switch {
	case kind == specs.PIDNamespace:
		return c.in.Settings.PID
	case kind == specs.IPCNamespace && c.in.Settings.IPC != c.in.ID:
		return c.in.Settings.IPC
	default:
		return ""
	}
}

// networkHooks plug a host network into a container's namespace. The machine
// is connected otherwise.
var networkHooks = []string{"libnetwork-setkey", "oci-hook"}

func (c *converter) hooks() error {
	h := c.spec.Hooks
	if h == nil {
		return nil
	}
	//nolint:staticcheck // engines still write the deprecated kind
	lists := []struct {
		name  string
		hooks *[]specs.Hook
	}{
		{"prestart", &h.Prestart}, {"createRuntime", &h.CreateRuntime}, {"createContainer", &h.CreateContainer},
		{"poststart", &h.Poststart}, {"poststop", &h.Poststop},
	}
	for _, l := range lists {
		for _, hook := range *l.hooks {
			if !isNetworkHook(hook) {
				return refuse("hooks."+l.name, "%s runs on the host, where the container is not", hook.Path)
			}
			c.drop("hooks.%s: %s connects a network namespace of the host, the machine has a network of its own", l.name, strings.Join(hook.Args, " "))
		}
		*l.hooks = nil
	}
	if len(h.StartContainer) == 0 {
		c.spec.Hooks = nil
	}
	return nil
}

func isNetworkHook(h specs.Hook) bool {
	return slices.ContainsFunc(h.Args, func(a string) bool {
		return slices.Contains(networkHooks, a)
	})
}

func (c *converter) linux() error {
	l := c.spec.Linux
	l.CgroupsPath = "/containers/" + c.in.ID
	if l.MountLabel != "" {
		c.drop("linux.mountLabel: label %q is of the host's policy", l.MountLabel)
		l.MountLabel = ""
	}
	if s := l.Seccomp; s != nil && s.ListenerPath != "" {
		return refuse("linux.seccomp.listenerPath", "%s is a socket of the host", s.ListenerPath)
	}
	if l.IntelRdt != nil {
		return refuse("linux.intelRdt", "the guest's processor has no resource control")
	}
	if len(l.NetDevices) > 0 {
		return refuse("linux.netDevices", "devices of the host cannot be moved into a machine")
	}
	return checkPropagation("linux.rootfsPropagation", l.RootfsPropagation)
}

// checkPropagation refuses what would need mounts to travel between kernels.
func checkPropagation(option, value string) error {
	switch strings.TrimPrefix(value, "r") {
	case "shared", "slave":
		return refuse(option, "%s: mounts do not propagate between host and guest", value)
	}
	return nil
}

// etcFiles are bound from the guest, which writes them when its network is
// configured.
var etcFiles = []string{"hostname", "hosts", "resolv.conf"}

func (c *converter) etc() error {
	if c.in.Settings.NoEtc {
		return nil
	}
	for _, name := range etcFiles {
		dest := "/etc/" + name
		if slices.ContainsFunc(c.spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == dest }) {
			continue
		}
		c.spec.Mounts = append(c.spec.Mounts, specs.Mount{
			Destination: dest,
			Type:        "bind",
			Source:      guestapi.RuntimeDir + "/etc/" + name,
			Options:     []string{"bind", "rprivate"},
		})
	}
	return nil
}

// init puts the guest's init before the container's command, where dockerd
// puts its own.
func (c *converter) init() error {
	p := c.spec.Process
	if !c.in.Settings.Init || p == nil {
		return nil
	}
	dest := "/sbin/" + guestapi.InitName
	p.Args = append([]string{dest, "--"}, p.Args...)
	c.spec.Mounts = append(c.spec.Mounts, specs.Mount{
		Destination: dest, Type: "bind", Source: guestapi.InitPath, Options: []string{"bind", "ro", "rprivate"},
	})
	return nil
}
