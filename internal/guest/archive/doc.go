// SPDX-License-Identifier: Apache-2.0

// Package archive packs and unpacks tar archives inside a container's root file
// system, for docker cp, and tells what a container has changed in it, for docker
// diff, export and commit.
//
// Every path is resolved by the kernel as if the root were the machine's
// (openat2, RESOLVE_IN_ROOT): symlinks, absolute ones too, mean what they mean
// to the container and never lead out. Names are opened relative to their
// directory and never followed, so a container that changes its tree meanwhile
// cannot redirect a read or a write.
package archive
