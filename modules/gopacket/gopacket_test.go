// SPDX-License-Identifier: Apache-2.0

package gopacket_test

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestAFrameTellsItsHeader(t *testing.T) {
	for data, want := range map[string]string{
		"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06payload": "frame of 21 bytes from 02:00:00:00:00:01 to ff:ff:ff:ff:ff:ff, type 0x0806",
		"\x01": "frame of 1 bytes, too short for Ethernet",
		"":     "frame of 0 bytes, too short for Ethernet",
	} {
		if got := gopacket.NewPacket([]byte(data), layers.LayerTypeEthernet, gopacket.Default).String(); got != want {
			t.Errorf("%q: %q, want %q", data, got, want)
		}
	}
}
