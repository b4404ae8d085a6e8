// SPDX-License-Identifier: Apache-2.0

// Package builder runs internal/builder over the programs and the image in bin/
// (or $BYRE_BIN): BuildKit in a real virtual machine, from its start by the first
// connection to its end.
package builder
