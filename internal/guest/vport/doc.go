// SPDX-License-Identifier: Apache-2.0

// Package vport finds and opens virtio-serial ports by their names. Device
// names follow probe order and say nothing; the name that the host gave a port
// is in /sys/class/virtio-ports.
//
// A port whose host end is closed reads as end of file at once, and poll(2)
// reports it ready, so waiting for a host needs edge-triggered notification:
// the driver wakes its waiters when the host end opens. Go's own poller is
// edge-triggered; [WaitData] relies on that.
package vport
