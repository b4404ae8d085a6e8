// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/mdlayher/vsock"
)

func TestNamesThatAreNoMachineAreRefused(t *testing.T) {
	for _, id := range []ID{"", "0", "1", "2", "-3", "4294967295", "4294967296", "x", "3 "} {
		if _, err := Dial(t.Context(), id, 1); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Dial of %q = %v, want invalid argument", id, err)
		}
		if _, err := Listen(id, 1); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("Listen for %q = %v, want invalid argument", id, err)
		}
	}
}

func TestConnectionsOfOtherMachinesAreTold(t *testing.T) {
	if !from(&vsock.Addr{ContextID: 7, Port: 9}, 7) {
		t.Error("the machine's own connection is refused")
	}
	if from(&vsock.Addr{ContextID: 8, Port: 9}, 7) {
		t.Error("another machine's connection passes")
	}
	if from(&net.UnixAddr{}, 7) {
		t.Error("a connection of another kind passes")
	}
}

func TestSupportFollowsTheDevice(t *testing.T) {
	_, statErr := os.Stat("/dev/vhost-vsock")
	err := Supported()
	if os.IsNotExist(statErr) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Supported = %v on a host without the device", err)
	}
	if err != nil && statErr == nil && os.Geteuid() == 0 {
		t.Errorf("Supported = %v on a host with the device, as root", err)
	}
}
