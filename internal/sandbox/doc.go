// SPDX-License-Identifier: Apache-2.0

// Package sandbox is one utility VM and what is in it: containers with their
// disks, shares, standard streams and files, the machine's network and memory.
//
// [Start] claims a machine from a driver and makes it one of its own: versions
// are compared, seed, clock, names and link secret renewed and the renewal
// proved; a machine that cannot show it is closed and not used. [Convert] turns
// the host's OCI specification into the guest's, purely: every option is
// honoured, replaced with a reason, or refused by name.
//
// The guest is hostile. What it answers is bounded and never used as a path,
// size or identifier on the host; the sandbox keeps its own table of the disks
// and shares it offered.
//
// Ownership: a Sandbox owns its machine, the containers' disks and shares, and
// the goroutines that serve them. [Sandbox.Close] ends all of them in reverse
// order of their making. Locks: Sandbox.mu guards the tables alone and is never
// held across a call to the guest or the driver; diskTable.mu serialises
// attaching and is taken without Sandbox.mu.
package sandbox
