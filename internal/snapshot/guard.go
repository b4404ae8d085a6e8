// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"runtime/debug"

	"github.com/containerd/errdefs"
)

// recovered turns a panic of the deferring function into its error. The daemon
// calls us in its own process and has no such net.
func recovered(op string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: panic: %v: %w\n%s", op, p, errdefs.ErrInternal, debug.Stack())
	}
}
