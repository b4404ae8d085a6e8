// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/mdlayher/vsock"
)

// firstGuest is the lowest context ID that can be a machine's: those below
// stand for the hypervisor, loopback and the host (linux/vm_sockets.h).
const firstGuest = 3

func supported() error {
	f, err := os.OpenFile("/dev/vhost-vsock", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no vsock for machines: %w", err)
	}
	return f.Close()
}

func contextID(id ID) (uint32, error) {
	n, err := strconv.ParseUint(string(id), 10, 32)
	if err != nil || n < firstGuest || n == 1<<32-1 {
		return 0, fmt.Errorf("%q is no context ID of a machine: %w", string(id), errdefs.ErrInvalidArgument)
	}
	return uint32(n), nil
}

func dial(ctx context.Context, id ID, port uint32) (net.Conn, error) {
	cid, err := contextID(id)
	if err != nil {
		return nil, err
	}
	return vsock.DialContext(ctx, cid, port, nil)
}

func listen(id ID, port uint32) (net.Listener, error) {
	cid, err := contextID(id)
	if err != nil {
		return nil, err
	}
	l, err := vsock.ListenContextID(vsock.Host, port, nil)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: l, cid: cid}, nil
}

// listener passes on the connections of one machine.
type listener struct {
	*vsock.Listener
	cid uint32
}

// Accept waits for the machine's next connection.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from(conn.RemoteAddr(), l.cid) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func from(addr net.Addr, cid uint32) bool {
	a, ok := addr.(*vsock.Addr)
	return ok && a.ContextID == cid
}
