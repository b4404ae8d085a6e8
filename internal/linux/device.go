// SPDX-License-Identifier: Apache-2.0

package linux

import "strings"

// Device is a character device whose numbers Linux fixes.
type Device struct {
	// Name is that below /dev.
	Name         string
	Major, Minor int64
}

// Devices are those that a machine's kernel has itself, whatever the host has.
func Devices() []Device {
	return []Device{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"kmsg", 1, 11},
		{"tty", 5, 0}, {"console", 5, 1}, {"ptmx", 5, 2},
		{"net/tun", 10, 200}, {"fuse", 10, 229}, {"loop-control", 10, 237},
	}
}

// DeviceAt finds one of Devices by its path, as in /dev/fuse.
func DeviceAt(path string) (Device, bool) {
	for _, d := range Devices() {
		if name, ok := strings.CutPrefix(path, "/dev/"); ok && name == d.Name {
			return d, true
		}
	}
	return Device{}, false
}

// IsDevice says whether the numbers are those of one of Devices.
func IsDevice(major, minor int64) bool {
	for _, d := range Devices() {
		if d.Major == major && d.Minor == minor {
			return true
		}
	}
	return false
}
