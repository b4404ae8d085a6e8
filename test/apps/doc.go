// SPDX-License-Identifier: Apache-2.0

// Package apps runs programs that people have containers for on bind mounts,
// and checks what those programs promise. It drives the programs in bin/ (or
// $BYRE_BIN) and boots real virtual machines; images are made of Debian's
// packages by build/debian-image.
package apps
