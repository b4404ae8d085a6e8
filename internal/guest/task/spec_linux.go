// SPDX-License-Identifier: Apache-2.0

package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
)

// object is a JSON object whose values are left as they are.
type object map[string]json.RawMessage

// cgroupParent is the cgroup above all containers.
const cgroupParent = "/byre"

// adaptSpec turns the host's OCI specification into one for this guest: the
// root file system is the one mounted in the container's directory, the cgroup
// is below cgroupParent, and the network namespace is the machine's own, which
// is why its sysctls are applied to the machine. A pid or ipc namespace that is
// another container's is found by pids, its process. A user name is resolved in
// rootfs. It returns the sysctls to apply. Everything else is the host's word.
func adaptSpec(raw []byte, id, rootfs string, terminal bool, pids func(id string) (int, error)) (adapted []byte, sysctls map[string]string, err error) {
	spec := object{}
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, nil, fmt.Errorf("read OCI specification: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	root, linux, process := object{}, object{}, object{}
	for name, dst := range map[string]*object{"root": &root, "linux": &linux, "process": &process} {
		if err := spec.get(name, dst); err != nil {
			return nil, nil, err
		}
	}
	root.set("path", "rootfs")
	linux.set("cgroupsPath", path.Join(cgroupParent, id))
	process.set("terminal", terminal)
	if err := resolveUser(process, rootfs); err != nil {
		return nil, nil, err
	}
	if err := machineNamespaces(linux, pids); err != nil {
		return nil, nil, err
	}
	if sysctls, err = takeNetSysctls(linux); err != nil {
		return nil, nil, err
	}
	spec.set("root", root)
	spec.set("linux", linux)
	spec.set("process", process)
	adapted, err = json.Marshal(spec)
	return adapted, sysctls, err
}

func (o object) get(name string, dst any) error {
	raw, ok := o[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return fmt.Errorf("read %s of OCI specification: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (o object) set(name string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("spec value %q cannot be encoded: %v", name, err)) // only maps, strings and bools come here
	}
	o[name] = raw
}

// machineNamespaces drops the network namespace from the list, since the
// container uses the machine's, and finds the pid and ipc namespaces of another
// container.
func machineNamespaces(linux object, pids func(id string) (int, error)) error {
	var all []object
	if err := linux.get("namespaces", &all); err != nil {
		return err
	}
	kept := []object{}
	for _, ns := range all {
		var kind, path string
		if err := errors.Join(ns.get("type", &kind), ns.get("path", &path)); err != nil {
			return err
		}
		if kind == "network" {
			continue
		}
		if other, ok := guestapi.OfNamespace(path, kind); ok && (kind == "pid" || kind == "ipc") {
			pid, err := pids(other)
			if err != nil {
				return fmt.Errorf("join %s namespace: %w", strings.ToUpper(kind), err)
			}
			ns.set("path", fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		}
		kept = append(kept, ns)
	}
	linux.set("namespaces", kept)
	return nil
}

// takeNetSysctls removes the network's sysctls, which runc refuses without a
// network namespace of the container's own, and returns them.
func takeNetSysctls(linux object) (map[string]string, error) {
	var all map[string]string
	if err := linux.get("sysctl", &all); err != nil || len(all) == 0 {
		return nil, err
	}
	net := map[string]string{}
	for k, v := range all {
		if strings.HasPrefix(k, "net.") || strings.HasPrefix(k, "net/") {
			net[k] = v
			delete(all, k)
		}
	}
	linux.set("sysctl", all)
	return net, nil
}

// execSpec checks an exec's process and sets its terminal as the request says.
func execSpec(raw []byte, terminal bool) ([]byte, error) {
	process := object{}
	if err := json.Unmarshal(raw, &process); err != nil {
		return nil, fmt.Errorf("read exec's process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	process.set("terminal", terminal)
	return json.Marshal(process)
}
