// SPDX-License-Identifier: Apache-2.0

// Package gopacket stands for the module of the same path, of which the switch
// of gvisor-tap-vsock uses nothing but the text of a frame, in its log for
// debugging. The real one fills tables of six megabytes whenever a program that
// is linked with it starts: byre has four such starts in each container's, and
// every shim kept the tables.
package gopacket

import (
	"encoding/binary"
	"fmt"
	"net"
)

// LayerType is the kind of a frame's outermost header.
type LayerType int

// DecodeOptions say how to decode.
type DecodeOptions struct{}

// Default is the only way.
var Default DecodeOptions

// Packet is a frame.
type Packet struct{ data []byte }

// NewPacket returns an Ethernet frame of data, which must not change while it is
// in use.
func NewPacket(data []byte, _ LayerType, _ DecodeOptions) Packet { return Packet{data} }

// headerSize is that of Ethernet: two addresses and a type.
const headerSize = 14

// String tells length, addresses and type.
func (p Packet) String() string {
	if len(p.data) < headerSize {
		return fmt.Sprintf("frame of %d bytes, too short for Ethernet", len(p.data))
	}
	return fmt.Sprintf("frame of %d bytes from %v to %v, type %#04x", len(p.data),
		net.HardwareAddr(p.data[6:12]), net.HardwareAddr(p.data[:6]), binary.BigEndian.Uint16(p.data[12:headerSize]))
}
