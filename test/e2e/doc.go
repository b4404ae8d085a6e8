// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the scripts in testdata: each drives the programs in bin/
// (or $BYRE_BIN) as a user does, and boots real virtual machines.
package e2e
