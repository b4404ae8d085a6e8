// SPDX-License-Identifier: Apache-2.0

// Package layers names the headers that package gopacket knows.
package layers

import "github.com/google/gopacket"

// LayerTypeEthernet is the header of Ethernet.
const LayerTypeEthernet gopacket.LayerType = 1
