// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"context"
	"fmt"
	"net"

	"github.com/Microsoft/go-winio"
	"github.com/Microsoft/go-winio/pkg/guid"
	"github.com/containerd/errdefs"
)

// supported is nil: Windows has AF_HYPERV wherever it has Hyper-V.
func supported() error { return nil }

// address is what a port of a machine is to Hyper-V: a service whose GUID holds
// the port.
func address(id ID, port uint32) (*winio.HvsockAddr, error) {
	vm, err := guid.FromString(string(id))
	if err != nil {
		return nil, fmt.Errorf("%q is no GUID of a machine: %w", string(id), errdefs.ErrInvalidArgument)
	}
	return &winio.HvsockAddr{VMID: vm, ServiceID: winio.VsockServiceID(port)}, nil
}

func dial(ctx context.Context, id ID, port uint32) (net.Conn, error) {
	addr, err := address(id, port)
	if err != nil {
		return nil, err
	}
	return winio.Dial(ctx, addr)
}

func listen(id ID, port uint32) (net.Listener, error) {
	addr, err := address(id, port)
	if err != nil {
		return nil, err
	}
	return winio.ListenHvsock(addr)
}
