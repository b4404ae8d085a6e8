// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"fmt"
	"os"
)

// countLinks says how many network interfaces the namespace of a process has,
// -1 when that is our own namespace, which no engine plugs for a container.
func countLinks(pid uint32) (int, error) {
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return 0, fmt.Errorf("network namespace of the machine: %w", err)
	}
	if ours == theirs {
		return -1, nil
	}
	// One line for each, behind two of headings.
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return 0, fmt.Errorf("links of the machine: %w", err)
	}
	return bytes.Count(b, []byte{'\n'}) - 2, nil
}
