// SPDX-License-Identifier: Apache-2.0

package request

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/linux"
)

// Devices returns the devices of the machine that a container is given, each with
// the rule that allows it.
func Devices(list []container.DeviceMapping) (devices []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	for _, m := range list {
		d, ok := linux.DeviceAt(m.PathOnHost)
		if !ok {
			return nil, nil, fmt.Errorf("the machine has no device %s", m.PathOnHost)
		}
		at, access := m.PathInContainer, m.CgroupPermissions
		if at == "" {
			at = m.PathOnHost
		}
		if access == "" {
			access = "rwm"
		}
		if strings.Trim(access, "rwm") != "" || !strings.HasPrefix(at, "/") {
			return nil, nil, fmt.Errorf("device %s: a path in the container is absolute, and permissions are of r, w and m", m.PathOnHost)
		}
		devices = append(devices, specs.LinuxDevice{Path: at, Type: "c", Major: d.Major, Minor: d.Minor})
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d.Major, Minor: &d.Minor, Access: access})
	}
	return devices, rules, nil
}

// deviceRule is dockerd's form of a rule.
var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// DeviceRules reads rules for devices that a container makes itself.
func DeviceRules(list []string) ([]specs.LinuxDeviceCgroup, error) {
	var rules []specs.LinuxDeviceCgroup
	for _, text := range list {
		m := deviceRule.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("invalid device cgroup rule format: '%s'", text)
		}
		rule := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
		for i, dst := range []**int64{&rule.Major, &rule.Minor} {
			if m[2+i] == "*" {
				continue
			}
			n, err := strconv.ParseInt(m[2+i], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("invalid device cgroup rule '%s': %w", text, err)
			}
			*dst = &n
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func allowDevices(v any) bool {
	list, ok := v.([]container.DeviceMapping)
	_, _, err := Devices(list)
	return ok && err == nil
}

func allowDeviceRules(v any) bool {
	list, ok := v.([]string)
	_, err := DeviceRules(list)
	return ok && err == nil
}

// machinesDevices names them for those who asked for another.
func machinesDevices() string {
	var names []string
	for _, d := range linux.Devices() {
		names = append(names, "/dev/"+d.Name)
	}
	return strings.Join(names, ", ")
}
