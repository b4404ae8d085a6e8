// SPDX-License-Identifier: Apache-2.0

// Package mount makes the mounts that the host asks for: disks by LUN,
// overlays, shares over 9P, tmpfs and binds, all below guestapi.RuntimeDir.
//
// Targets are resolved without following symlinks, so that a container that
// plants one in its root file system cannot move a mount elsewhere. The Manager
// remembers what it mounted, in order, and UnmountAll takes it down in reverse;
// its lock guards that list alone and is never held across a mount.
package mount
