// SPDX-License-Identifier: Apache-2.0

// Package localsock is the daemon's door: a Unix socket on Unix hosts, a named
// pipe on Windows, open to the user who runs the daemon and to nobody else.
//
// Addresses are host URLs as Docker clients take them: unix:///path or
// npipe:////./pipe/name.
package localsock

import (
	"context"
	"net"
)

// Address returns the door of a state directory whose socket file would be
// path.
func Address(path string) string { return address(path) }

// Listen opens the door. A socket file that a killed daemon left behind is
// replaced: the caller holds the daemon's lock, so that nobody can be
// listening there.
func Listen(path string) (net.Listener, error) { return listen(path) }

// Dial connects to the door.
func Dial(ctx context.Context, path string) (net.Conn, error) { return dial(ctx, path) }
