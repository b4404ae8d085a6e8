// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/engine/spec"
	"byre.dev/byre/internal/shimapi"
)

// onWindows says how the host spells its paths.
const onWindows = runtime.GOOS == "windows"

// resolveMounts turns what was asked for into the container's mounts: -v and
// --volumes-from, --mount, --tmpfs, and the image's VOLUMEs.
func (e *mounting) resolveMounts(rec *Record) error {
	var all []Mount
	for _, from := range rec.Host.VolumesFrom {
		ms, err := e.mountsFrom(from)
		if err != nil {
			return err
		}
		all = override(all, ms)
	}
	var own []Mount
	for _, b := range rec.Host.Binds {
		m, err := e.parseBind(b)
		if err != nil {
			return err
		}
		own = append(own, m)
	}
	for _, m := range rec.Host.Mounts {
		resolved, err := e.resolveMount(m)
		if err != nil {
			return err
		}
		own = append(own, resolved)
	}
	for _, dest := range slices.Sorted(maps.Keys(rec.Host.Tmpfs)) {
		options, err := spec.TmpfsOptions(rec.Host.Tmpfs[dest])
		if err != nil {
			return err
		}
		own = append(own, Mount{Type: mount.TypeTmpfs, Destination: path.Clean(dest), Options: options, Plain: true})
	}
	if err := checkDestinations(own); err != nil {
		return err
	}
	all = override(all, own)
	for _, dest := range slices.Sorted(maps.Keys(rec.Config.Volumes)) {
		dest = path.Clean(dest)
		if slices.ContainsFunc(all, func(m Mount) bool { return m.Destination == dest }) {
			continue
		}
		m, err := e.volumeMount("", dest, nil, nil)
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	rec.Mounts = all
	return nil
}

// override adds mounts; those at the same place take the place of the older.
func override(all, more []Mount) []Mount {
	for _, m := range more {
		all = slices.DeleteFunc(all, func(o Mount) bool { return o.Destination == m.Destination })
		all = append(all, m)
	}
	return all
}

func checkDestinations(all []Mount) error {
	seen := map[string]bool{}
	for _, m := range all {
		if err := checkDestination(m.Destination); err != nil {
			return err
		}
		if seen[m.Destination] {
			return invalid("Duplicate mount point: %s", m.Destination)
		}
		seen[m.Destination] = true
	}
	return nil
}

func checkDestination(dest string) error {
	if dest == "/" {
		return invalid("invalid mount path: destination can't be '/'")
	}
	if !path.IsAbs(dest) {
		return invalid("invalid mount path: '%s' mount path must be absolute", dest)
	}
	return checkPath("mount path", dest, false)
}

// mountsFrom returns the mounts of another container: "container[:ro|:rw]".
func (e *mounting) mountsFrom(from string) ([]Mount, error) {
	ref, mode, _ := strings.Cut(from, ":")
	if mode != "" && mode != "ro" && mode != "rw" {
		return nil, invalid("invalid mode for volumes-from: %s", mode)
	}
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, invalid("volumes-from %s: %v", from, err)
	}
	var all []Mount
	for _, m := range c.snapshot().Mounts {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		if m.Type == mount.TypeVolume {
			if err := e.claim(m.Name); err != nil {
				return nil, invalid("volumes-from %s: %v", from, err)
			}
		}
		if m.Type == mount.TypeImage {
			// The container's view of it is its own.
			m.Name = m.Source
		}
		m.ReadOnly = m.ReadOnly || mode == "ro"
		// The volume goes with the container that it was made for.
		m.Anonymous = false
		all = append(all, m)
	}
	return all, nil
}

// parseBind reads -v: "[source:]destination[:mode]".
func (e *mounting) parseBind(b string) (Mount, error) {
	source, dest, mode, err := splitBind(b, onWindows)
	if err != nil {
		return Mount{}, err
	}
	own := e.ownSocket(source)
	hostDir := source
	if !own {
		if hostDir, err = hostPath(source, onWindows); err != nil {
			return Mount{}, err
		}
	}
	if err := checkDestination(path.Clean(dest)); err != nil {
		return Mount{}, err
	}
	m := Mount{Type: mount.TypeBind, Source: hostDir, Destination: path.Clean(dest), Mode: mode, Socket: own}
	noCopy, err := m.setMode(b)
	if err != nil {
		return m, err
	}
	if hostDir == "" {
		v, err := e.volumeMount(source, m.Destination, nil, nil)
		v.Mode, v.ReadOnly, v.UID, v.GID, v.Consistent = mode, m.ReadOnly, m.UID, m.GID, m.Consistent
		v.NoCopy = noCopy
		if err == nil && v.Disk && v.UID != nil {
			return v, invalid("invalid volume specification: '%s': volume %s is a disk, whose files have owners of their own: uid and gid are for directories and for volumes with the option type=directory", b, v.Name)
		}
		return v, err
	}
	if noCopy {
		return m, invalid("invalid volume specification: '%s': nocopy is for volumes", b)
	}
	if own {
		return m, m.checkSocket()
	}
	return m, makeSource(m.Source)
}

// checkSocket refuses for a socket what concerns files.
func (m *Mount) checkSocket() error {
	if m.UID != nil || m.Consistent {
		return invalid("invalid volume specification: %s is the daemon's socket, which has no owners to map and no cache", m.Source)
	}
	return nil
}

// setMode reads the mode of a bind, which b is the whole of.
func (m *Mount) setMode(b string) (noCopy bool, err error) {
	for o := range strings.SplitSeq(m.Mode, ",") {
		switch o {
		case "", "rw", "rprivate", "private", "cached", "delegated":
		case "consistent":
			m.Consistent = true
		case "ro":
			m.ReadOnly = true
		case "nocopy":
			noCopy = true
		case "shared", "rshared", "slave", "rslave":
			return false, invalid(`byre does not support HostConfig.Binds: mode %q of %q: mounts do not propagate between host and guest`, o, b)
		case "z", "Z":
			// Labels of SELinux: there is none between host and machine.
		default:
			ok, err := m.setOwner(o)
			if err != nil {
				return false, invalid("invalid volume specification: '%s': %v", b, err)
			}
			if !ok {
				return false, invalid(`byre does not support HostConfig.Binds: mode %q of %q`, o, b)
			}
		}
	}
	if m.UID == nil && m.GID != nil {
		return false, invalid("invalid volume specification: '%s': gid without uid", b)
	}
	return noCopy, nil
}

// makeSource makes the directory that a bind is of, unless something is there.
func makeSource(p string) error {
	if err := os.MkdirAll(p, 0o755); err != nil && !errors.Is(err, fs.ErrExist) && !isFile(p) {
		return invalid("error while creating mount source path '%s': %v", p, err)
	}
	return nil
}

// setOwner takes "uid=N" and "gid=N", byre's own options of -v: to whom the
// files belong in the container that belong to the user on the host.
func (m *Mount) setOwner(option string) (bool, error) {
	key, value, _ := strings.Cut(option, "=")
	field := map[string]**uint32{"uid": &m.UID, "gid": &m.GID}[key]
	if field == nil {
		return false, nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == 1<<32-1 {
		return false, fmt.Errorf("%q is not a number of a user", option)
	}
	id := uint32(n)
	*field = &id
	return true, nil
}

// settings are what the shim is told about the mount, nil if nothing. Fill
// says that the mount is a volume to be filled.
func (m *Mount) settings(fill bool) *shimapi.Mount {
	if m.UID == nil && !m.Consistent && !fill && !m.Disk && !m.Socket && m.Subpath == "" {
		return nil
	}
	s := &shimapi.Mount{UID: m.UID, GID: m.GID, Fill: fill, Disk: m.Disk, Socket: m.Socket, Subpath: m.Subpath}
	if s.GID == nil {
		s.GID = m.UID
	}
	if m.Consistent {
		s.Cache = "none"
	}
	return s
}

func isFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && !info.IsDir()
}

// resolveMount reads --mount.
func (e *mounting) resolveMount(m mount.Mount) (_ Mount, err error) {
	r := Mount{Type: m.Type, Destination: path.Clean(m.Target), ReadOnly: m.ReadOnly}
	switch m.Consistency {
	case "", mount.ConsistencyDefault, mount.ConsistencyCached, mount.ConsistencyDelegated:
	case mount.ConsistencyFull:
		r.Consistent = true
	default:
		return r, invalid("invalid mount config for type %q: consistency %q", m.Type, m.Consistency)
	}
	if m.Target == "" {
		return r, invalid("invalid mount config for type %q: field Target must not be empty", m.Type)
	}
	switch m.Type {
	case mount.TypeBind:
		if r.Socket = e.ownSocket(m.Source); r.Socket {
			r.Source = m.Source
			return r, r.checkSocket()
		}
		return bindMount(r, m)
	case mount.TypeVolume:
		var labels, options map[string]string
		if o := m.VolumeOptions; o != nil {
			labels, r.NoCopy = o.Labels, o.NoCopy
			if r.Subpath, err = subpath(m.Type, o.Subpath); err != nil {
				return r, err
			}
			if o.DriverConfig != nil {
				options = o.DriverConfig.Options
			}
		}
		v, err := e.volumeMount(m.Source, r.Destination, labels, options)
		v.ReadOnly, v.Consistent, v.NoCopy, v.Subpath = m.ReadOnly, r.Consistent, r.NoCopy, r.Subpath
		return v, err
	case mount.TypeImage:
		return imageMount(r, m)
	}
	return tmpfsMount(r, m)
}

func bindMount(r Mount, m mount.Mount) (Mount, error) {
	if m.Source == "" {
		return r, invalid("invalid mount config for type \"bind\": field Source must not be empty")
	}
	source, err := hostPath(m.Source, onWindows)
	if err != nil {
		return r, invalid("invalid mount config for type \"bind\": %v", err)
	}
	if source == "" {
		return r, invalid("invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	r.Source = source
	if o := m.BindOptions; o != nil {
		r.NonRecursive = o.NonRecursive
		if o.CreateMountpoint {
			if err := makeSource(r.Source); err != nil {
				return r, err
			}
		}
	}
	if _, err := os.Stat(r.Source); err != nil {
		return r, invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
	}
	return r, nil
}

func tmpfsMount(r Mount, m mount.Mount) (Mount, error) {
	if m.Source != "" {
		return r, invalid("invalid mount config for type \"tmpfs\": field Source must not be specified")
	}
	o := m.TmpfsOptions
	if o == nil {
		return r, nil
	}
	if o.SizeBytes > 0 {
		r.Options = append(r.Options, fmt.Sprintf("size=%d", o.SizeBytes))
	}
	if o.Mode != 0 {
		r.Options = append(r.Options, fmt.Sprintf("mode=%o", o.Mode))
	}
	for _, pair := range o.Options {
		checked, err := spec.TmpfsOptions(strings.Join(pair, "="))
		if err != nil {
			return r, err
		}
		r.Options = append(r.Options, checked...)
	}
	return r, nil
}

// volumeMount mounts a volume, which is made if it is missing; without a name
// it is the container's own.
func (e *mounting) volumeMount(name, dest string, labels, options map[string]string) (Mount, error) {
	v, err := e.volume(name, labels, options)
	if err != nil {
		return Mount{}, err
	}
	return Mount{Type: mount.TypeVolume, Name: v.Name, Source: v.Path, Destination: dest, Anonymous: v.Anonymous, Disk: v.Disk()}, nil
}
