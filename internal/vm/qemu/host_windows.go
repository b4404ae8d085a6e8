// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// errNoDescriptors is why QEMU starts no machine on Windows: this driver hands
// QEMU its sockets as inherited descriptors, which QEMU's Windows build does
// not take. Hyper-V is the driver there.
var errNoDescriptors = fmt.Errorf("QEMU on Windows takes no inherited sockets: %w", errors.ErrUnsupported)

func socketPair(string) (net.Conn, *os.File, error) { return nil, nil, errNoDescriptors }

func dialSwitch(string) (*os.File, error) { return nil, errNoDescriptors }

func writeWithFile(net.Conn, []byte, *os.File) error { return errNoDescriptors }

func inherited(int) string { return "" }

func newMemoryFile(uint64) (*os.File, error) { return nil, errNoDescriptors }

func hostMemory() (uint64, error) { return 0, errors.ErrUnsupported }

func hostBoot() string { return "" }

const (
	seekData = -1
	seekHole = -1
)

func allocated(*os.File) int64 { return -1 }
