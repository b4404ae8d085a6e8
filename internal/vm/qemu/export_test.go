// SPDX-License-Identifier: Apache-2.0

package qemu

import "time"

// Suppose has the driver find an acceleration of that name on the host and give
// it that time to boot.
func (d *Driver) Suppose(accel string, limit time.Duration) {
	d.candidate = func() (string, error) { return accel, nil }
	d.probeLimit = limit
}
