// SPDX-License-Identifier: Apache-2.0

// Package vsock dials and listens between a host and its machines by vsock
// port: AF_VSOCK on a Linux host, AF_HYPERV on Windows. A Linux guest of
// either sees AF_VSOCK.
//
// On Linux the host's ports are one space for all machines and all processes:
// a port that one process listens on for its machine is taken for the others.
// Links that need the same host port for every machine run package mux over one
// dialed connection. Hyper-V keeps a space of ports for each machine.
package vsock

import (
	"context"
	"fmt"
	"net"
)

// ID names a machine to its host: its context ID in decimal on Linux, its GUID
// on Windows.
type ID string

// Supported returns nil when this host can open vsock connections to machines,
// else what is missing. It is errors.ErrUnsupported on systems without them.
func Supported() error { return supported() }

// Dial connects to a port of a machine. ctx bounds the connecting.
func Dial(ctx context.Context, id ID, port uint32) (net.Conn, error) {
	conn, err := dial(ctx, id, port)
	if err != nil {
		return nil, fmt.Errorf("dial port %d of machine %s: %w", port, id, err)
	}
	return conn, nil
}

// Listen takes connections that one machine opens to a port of the host; those
// of other machines are closed unread. The caller closes the listener.
func Listen(id ID, port uint32) (net.Listener, error) {
	l, err := listen(id, port)
	if err != nil {
		return nil, fmt.Errorf("listen on port %d for machine %s: %w", port, id, err)
	}
	return l, nil
}
