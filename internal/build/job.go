// SPDX-License-Identifier: Apache-2.0

package build

// job is a build that a client can cancel.
type job struct {
	cancel func()
}
